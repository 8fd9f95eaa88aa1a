//! One connection: made within a time limit, and ended for certain.
//!
//! lapin runs each connection in a thread of its own, which goes on while its socket is open: a peer that is silent during
//! the handshake or the close would hold thread and socket for ever. So we keep a second handle on the socket and shut it
//! down when we are done, whatever lapin thinks.

use super::{Broker, LinkError, error};
use futures_util::io::{AsyncRead, AsyncWrite};
use lapin::{AsyncTcpStream, Connection, ConnectionProperties, tcp::OwnedTLSConfig, uri::AMQPScheme};
use std::{
    io,
    net::{Shutdown, TcpStream},
    os::fd::AsFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::timeout;

/// From the first packet to the broker's "open-ok".
const CONNECT: Duration = Duration::from_secs(5);
/// A polite goodbye.
const CLOSE: Duration = Duration::from_millis(700);

/// An open connection; its socket is closed with it.
pub struct Live {
    pub connection: Arc<Connection>,
    socket: Socket,
}

impl Live {
    pub async fn open(broker: &Broker, name: &str) -> Result<Self, LinkError> {
        let properties = ConnectionProperties::default()
            .with_connection_name(name.into())
            .with_client_property("product".into(), "Campanile".into())
            .with_client_property("version".into(), env!("CARGO_PKG_VERSION").into());
        let runtime = lapin::runtime::default_runtime()?;
        let (socket, tls) = (Socket::default(), tls(broker)?);
        let hold = socket.clone();
        // The closure runs in lapin's thread, which would wait as long as the operating system does.
        let connecting = Connection::connector(
            broker.uri.clone(),
            runtime,
            async move |uri, runtime| {
                let dialled = async {
                    let host = (uri.authority.host.clone(), uri.authority.port);
                    let plain = AsyncTcpStream::connect(&runtime, runtime.to_socket_addrs(host)).await?;
                    if let AsyncTcpStream::Plain(stream) = &plain {
                        stream.get_ref().set_nodelay(true)?;
                        hold.keep(stream.get_ref().as_fd().try_clone_to_owned()?.into())?;
                    }
                    match uri.scheme {
                        AMQPScheme::AMQP => Ok(plain),
                        AMQPScheme::AMQPS => plain.into_tls(&uri.authority.host, tls.as_ref()).await,
                    }
                };
                Ok(timeout(CONNECT, dialled).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?)
            },
            properties,
        );
        // Whatever way this ends without a connection, `socket` is dropped and ends the thread.
        let opened = timeout(CONNECT, connecting).await;
        match opened {
            Ok(Ok(connection)) => Ok(Self { connection: Arc::new(connection), socket }),
            Ok(Err(e)) => Err(error::connecting(broker, &e)),
            Err(_) => Err(LinkError::Lost(format!("{broker} did not answer within {} s", CONNECT.as_secs()))),
        }
    }

    /// Says goodbye if anybody listens.
    pub async fn close(self) {
        if self.connection.status().connected() {
            let _ = timeout(CLOSE, self.connection.close(200, "done".into())).await;
        }
        self.socket.cut();
    }
}

/// A bare stream to the broker, for who speaks AMQP by hand.
pub async fn dial(broker: &Broker) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + use<>> {
    let runtime = lapin::runtime::default_runtime().map_err(io::Error::other)?;
    let tls = tls(broker).map_err(io::Error::other)?;
    let authority = &broker.uri.authority;
    let host = (authority.host.clone(), authority.port);
    let plain = AsyncTcpStream::connect(&runtime, runtime.to_socket_addrs(host)).await?;
    match broker.uri.scheme {
        AMQPScheme::AMQP => Ok(plain),
        AMQPScheme::AMQPS => plain.into_tls(&authority.host, tls.as_ref()).await,
    }
}

fn tls(broker: &Broker) -> Result<OwnedTLSConfig, LinkError> {
    let Some(file) = &broker.ca else { return Ok(OwnedTLSConfig::default()) };
    let chain = std::fs::read_to_string(file).map_err(|e| {
        LinkError::Refused(format!("the cacertfile {} of {} can't be read: {e}", file.display(), broker.setting))
    })?;
    Ok(OwnedTLSConfig { cert_chain: Some(chain), ..OwnedTLSConfig::default() })
}

/// A second handle on a connection's socket. Dropping the one that [`Live::open`] made shuts the socket down.
#[derive(Default)]
struct Socket {
    state: Arc<Mutex<State>>,
    /// The clone that lapin's thread has is only there to put the socket in.
    borrowed: bool,
}

#[derive(Default)]
enum State {
    #[default]
    Unborn,
    Open(TcpStream),
    Cut,
}

impl Clone for Socket {
    fn clone(&self) -> Self {
        Self { state: self.state.clone(), borrowed: true }
    }
}

impl Socket {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An error when nobody waits for this connection any more.
    fn keep(&self, stream: TcpStream) -> io::Result<()> {
        let mut state = self.lock();
        if matches!(*state, State::Cut) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        *state = State::Open(stream);
        Ok(())
    }

    fn cut(&self) {
        if let State::Open(stream) = std::mem::replace(&mut *self.lock(), State::Cut) {
            // Fails when the peer was quicker.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if !self.borrowed {
            self.cut();
        }
    }
}
