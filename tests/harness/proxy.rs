//! A TCP proxy between a client and a host that delays, throttles, swallows or cuts on command.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Notify, watch},
};

/// What happens to bytes and connections from now on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// Bytes pass.
    #[default]
    Pass,
    /// Connections stay open, nothing passes in either direction.
    BlackHole,
    /// Nothing from the server reaches the client any more; the other direction passes.
    NeverRead,
    /// Open connections are closed, new ones are refused at once.
    Cut,
    /// Like `Cut`, with a reset instead of an orderly end.
    Reset,
}

#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    knobs: Arc<Knobs>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Knobs {
    delay_ms: AtomicU64,
    /// Bytes a second towards the client; 0: as fast as it goes.
    rate: AtomicU64,
    /// Cut a connection after this many bytes towards the client; 0: never.
    cut_after: AtomicU64,
    open: AtomicUsize,
    down: AtomicU64,
    /// Connections so far, and the number up to which they are swallowed.
    born: AtomicU64,
    swallowed: AtomicU64,
}

impl Proxy {
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it has an address");
        let (mode, watching) = watch::channel(Mode::Pass);
        let knobs = Arc::new(Knobs::default());
        let shared = knobs.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, target, watching.clone(), shared.clone()));
            }
        });
        Self { address, mode, knobs, task }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
    /// Delays each piece in both directions.
    pub fn delay(&self, delay: Duration) {
        self.knobs.delay_ms.store(delay.as_millis() as u64, Ordering::SeqCst);
    }
    /// Bytes a second towards the client.
    pub fn throttle(&self, bytes_per_second: u64) {
        self.knobs.rate.store(bytes_per_second, Ordering::SeqCst);
    }
    /// Cuts each connection once this many bytes went to the client.
    pub fn cut_after(&self, bytes: u64) {
        self.knobs.cut_after.store(bytes, Ordering::SeqCst);
    }
    /// Connections of now stay open and nothing passes on them any more, ever; new ones are as they should be.
    pub fn swallow(&self) {
        self.knobs.swallowed.store(self.knobs.born.load(Ordering::SeqCst), Ordering::SeqCst);
        self.mode.send_modify(|_| {});
    }
    pub fn connections(&self) -> usize {
        self.knobs.open.load(Ordering::SeqCst)
    }
    /// Bytes that went to clients so far.
    pub fn bytes_down(&self) -> u64 {
        self.knobs.down.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.mode.send_replace(Mode::Cut);
        self.task.abort();
    }
}

/// Counts a connection while it lives.
struct Counted(Arc<Knobs>);
impl Drop for Counted {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn carry(client: TcpStream, target: SocketAddr, mut mode: watch::Receiver<Mode>, knobs: Arc<Knobs>) {
    if matches!(*mode.borrow(), Mode::Cut | Mode::Reset) {
        return end(client, *mode.borrow());
    }
    let Ok(server) = TcpStream::connect(target).await else { return };
    knobs.open.fetch_add(1, Ordering::SeqCst);
    let _counted = Counted(knobs.clone());
    let (mut client_in, mut client_out) = client.into_split();
    let (mut server_in, mut server_out) = server.into_split();
    let used_up = Notify::new();
    let number = knobs.born.fetch_add(1, Ordering::SeqCst) + 1;
    let up = pump(&mut client_in, &mut server_out, mode.clone(), &knobs, number, None);
    let down = pump(&mut server_in, &mut client_out, mode.clone(), &knobs, number, Some(&used_up));
    let cut = mode.wait_for(|m| matches!(m, Mode::Cut | Mode::Reset));
    let how = tokio::select! {
        () = async { tokio::join!(up, down); } => Mode::Cut,
        () = used_up.notified() => Mode::Cut,
        how = cut => how.map_or(Mode::Cut, |m| *m),
    };
    if let Ok(client) = client_in.reunite(client_out) {
        end(client, how);
    }
}

fn end(client: TcpStream, how: Mode) {
    if how == Mode::Reset {
        // A linger of zero turns the close into a reset.
        let _ = client.set_zero_linger();
    }
}

async fn pump(
    from: &mut tokio::net::tcp::OwnedReadHalf,
    to: &mut tokio::net::tcp::OwnedWriteHalf,
    mut mode: watch::Receiver<Mode>,
    knobs: &Knobs,
    number: u64,
    // Set for the direction towards the client: told when the connection's share of bytes is used up.
    down: Option<&Notify>,
) {
    let mut passed = 0;
    let mut buffer = [0u8; 4096];
    loop {
        // Nothing is read while nothing may pass, so the sender meets full buffers, as with a peer that never reads.
        let passes = |m: &Mode| {
            let open = *m == Mode::Pass || (*m == Mode::NeverRead && down.is_none());
            open && number > knobs.swallowed.load(Ordering::SeqCst)
        };
        if mode.wait_for(passes).await.is_err() {
            return;
        }
        let read = tokio::select! {
            biased;
            _ = mode.changed() => continue,
            read = from.read(&mut buffer) => read,
        };
        let n = match read {
            Ok(0) | Err(_) => {
                let _ = to.shutdown().await;
                return;
            }
            Ok(n) => n,
        };
        let delay = knobs.delay_ms.load(Ordering::SeqCst);
        if delay > 0 {
            tokio::time::sleep(Duration::from_millis(delay)).await;
        }
        let rate = knobs.rate.load(Ordering::SeqCst);
        if down.is_some() && rate > 0 {
            tokio::time::sleep(Duration::from_secs_f64(n as f64 / rate as f64)).await;
        }
        if to.write_all(&buffer[..n]).await.is_err() {
            return;
        }
        if let Some(used_up) = down {
            passed += n as u64;
            knobs.down.fetch_add(n as u64, Ordering::SeqCst);
            let limit = knobs.cut_after.load(Ordering::SeqCst);
            if limit > 0 && passed >= limit {
                used_up.notify_one();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = socket.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        address
    }

    #[tokio::test]
    async fn bytes_pass_then_the_connection_is_cut() {
        let proxy = Proxy::to(echo().await).await;
        let mut socket = TcpStream::connect(proxy.address()).await.unwrap();
        socket.write_all(b"hello").await.unwrap();
        let mut got = [0u8; 5];
        socket.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"hello");
        proxy.set(Mode::Cut);
        assert!(matches!(socket.read(&mut got).await, Ok(0) | Err(_)));
    }

    #[tokio::test]
    async fn a_black_hole_holds_bytes_until_it_opens() {
        let proxy = Proxy::to(echo().await).await;
        let mut socket = TcpStream::connect(proxy.address()).await.unwrap();
        proxy.set(Mode::BlackHole);
        socket.write_all(b"late").await.unwrap();
        let mut got = [0u8; 4];
        assert!(tokio::time::timeout(Duration::from_millis(100), socket.read_exact(&mut got)).await.is_err());
        proxy.set(Mode::Pass);
        socket.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"late");
    }

    #[tokio::test]
    async fn a_swallowed_connection_stays_silent_and_a_new_one_speaks() {
        let proxy = Proxy::to(echo().await).await;
        let mut old = TcpStream::connect(proxy.address()).await.unwrap();
        let mut got = [0u8; 5];
        old.write_all(b"hello").await.unwrap();
        old.read_exact(&mut got).await.unwrap();
        proxy.swallow();
        old.write_all(b"never").await.unwrap();
        let mut new = TcpStream::connect(proxy.address()).await.unwrap();
        new.write_all(b"there").await.unwrap();
        new.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"there");
        assert!(tokio::time::timeout(Duration::from_millis(100), old.read_exact(&mut got)).await.is_err());
    }
}
