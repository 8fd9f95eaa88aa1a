//! Just enough AMQP 0-9-1 to get messages from a queue whatever they carry.
//!
//! lapin ends the whole connection over a message with a property that is not UTF-8, or of an unknown type, and the broker
//! then delivers it again. RabbitMQ takes such messages from anybody. So where lapin fails, this reads: it knows the
//! frames around a message and leaves its properties as bytes. Absent on purpose: consumers, publishing, heartbeats; a visit
//! takes seconds.

use super::{Broker, LinkError, connect};
use futures_util::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use lapin::{BasicProperties, protocol::basic::parse_properties};
use std::{io, time::Duration};
use tokio::time::timeout;

/// For the whole of what one call waits for.
const PATIENCE: Duration = Duration::from_secs(10);
const FRAME_END: u8 = 0xce;
/// More than we ever agree to.
const FRAME_MAX: usize = 1 << 20;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;

const START: (u16, u16) = (10, 10);
const START_OK: (u16, u16) = (10, 11);
const TUNE: (u16, u16) = (10, 30);
const TUNE_OK: (u16, u16) = (10, 31);
const OPEN: (u16, u16) = (10, 40);
const OPEN_OK: (u16, u16) = (10, 41);
const CLOSE: (u16, u16) = (10, 50);
const CLOSE_OK: (u16, u16) = (10, 51);
const CHANNEL_OPEN: (u16, u16) = (20, 10);
const CHANNEL_OPEN_OK: (u16, u16) = (20, 11);
const GET: (u16, u16) = (60, 70);
const GET_OK: (u16, u16) = (60, 71);
const GET_EMPTY: (u16, u16) = (60, 72);
const ACK: (u16, u16) = (60, 80);

/// A message as it lies on the wire.
#[derive(Debug)]
pub struct RawMessage {
    pub tag: u64,
    pub exchange: Vec<u8>,
    pub routing_key: Vec<u8>,
    /// Flags and values, undecoded.
    pub properties: Vec<u8>,
    pub body: Vec<u8>,
}

impl RawMessage {
    /// Whether lapin would choke on it.
    pub fn is_readable(&self) -> bool {
        let read: Result<(&[u8], BasicProperties), _> = parse_properties(self.properties.as_slice());
        read.is_ok_and(|(rest, _)| rest.is_empty())
            && std::str::from_utf8(&self.exchange).is_ok()
            && std::str::from_utf8(&self.routing_key).is_ok()
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// One connection with one channel. What was got and not acknowledged goes back when it is dropped.
pub struct RawChannel {
    stream: Box<dyn Stream>,
}

impl RawChannel {
    pub async fn open(broker: &Broker) -> Result<Self, LinkError> {
        within(async {
            let mut this = Self { stream: Box::new(connect::dial(broker).await?) };
            this.log_in(broker).await?;
            Ok(this)
        })
        .await
    }

    async fn log_in(&mut self, broker: &Broker) -> io::Result<()> {
        let (authority, vhost) = (&broker.uri.authority, &broker.uri.vhost);
        self.stream.write_all(b"AMQP\0\0\x09\x01").await?;
        self.expect(START).await?;
        let login = format!("\0{}\0{}", authority.userinfo.username, authority.userinfo.password);
        let mut start_ok = 0_u32.to_be_bytes().to_vec();
        short(&mut start_ok, b"PLAIN");
        long(&mut start_ok, login.as_bytes());
        short(&mut start_ok, b"en_US");
        self.say(0, START_OK, &start_ok).await?;
        // The broker's own limits suit us; without heartbeats.
        let mut tuned = self.expect(TUNE).await?;
        tuned.truncate(6);
        tuned.extend([0, 0]);
        self.say(0, TUNE_OK, &tuned).await?;
        let mut open = Vec::new();
        short(&mut open, vhost.as_bytes());
        open.extend([0, 0]);
        self.say(0, OPEN, &open).await?;
        self.expect(OPEN_OK).await?;
        self.say(1, CHANNEL_OPEN, &[0]).await?;
        self.expect(CHANNEL_OPEN_OK).await.map(drop)
    }

    /// The first message of the queue; `None` when it is empty.
    pub async fn get(&mut self, queue: &str) -> Result<Option<RawMessage>, LinkError> {
        within(async {
            let mut get = vec![0, 0];
            short(&mut get, queue.as_bytes());
            get.push(0);
            self.say(1, GET, &get).await?;
            let arguments = loop {
                match self.method().await? {
                    (GET_OK, arguments) => break arguments,
                    (GET_EMPTY, _) => return Ok(None),
                    other => refused(&other)?,
                }
            };
            self.content(&arguments).await.map(Some)
        })
        .await
    }

    async fn content(&mut self, arguments: &[u8]) -> io::Result<RawMessage> {
        let mut at = Reader(arguments);
        let tag = at.u64()?;
        at.take(1)?;
        let (exchange, routing_key) = (at.short()?.to_vec(), at.short()?.to_vec());
        let header = self.frame(HEADER).await?;
        let mut at = Reader(&header);
        at.take(4)?;
        let size = at.u64()?;
        let properties = at.0.to_vec();
        let mut body = Vec::new();
        while (body.len() as u64) < size {
            body.extend(self.frame(BODY).await?);
        }
        Ok(RawMessage { tag, exchange, routing_key, properties, body })
    }

    pub async fn ack(&mut self, tag: u64) -> Result<(), LinkError> {
        let mut ack = tag.to_be_bytes().to_vec();
        ack.push(0);
        within(self.say(1, ACK, &ack)).await
    }

    /// Says goodbye; the broker has taken every acknowledgement when it answers.
    pub async fn close(mut self) -> Result<(), LinkError> {
        within(async {
            let mut close = 200_u16.to_be_bytes().to_vec();
            short(&mut close, b"done");
            close.extend([0; 4]);
            self.say(0, CLOSE, &close).await?;
            loop {
                // Messages may still be on their way.
                let (kind, payload) = self.any_frame().await?;
                if kind == METHOD && payload.starts_with(&id(CLOSE_OK)) {
                    return Ok(());
                }
            }
        })
        .await
    }

    async fn say(&mut self, channel: u16, method: (u16, u16), arguments: &[u8]) -> io::Result<()> {
        let mut frame = vec![METHOD];
        frame.extend(channel.to_be_bytes());
        frame.extend((arguments.len() as u32 + 4).to_be_bytes());
        frame.extend(id(method));
        frame.extend(arguments);
        frame.push(FRAME_END);
        self.stream.write_all(&frame).await?;
        self.stream.flush().await
    }

    async fn expect(&mut self, wanted: (u16, u16)) -> io::Result<Vec<u8>> {
        loop {
            match self.method().await? {
                (method, arguments) if method == wanted => return Ok(arguments),
                other => refused(&other)?,
            }
        }
    }

    async fn method(&mut self) -> io::Result<((u16, u16), Vec<u8>)> {
        let mut payload = self.frame(METHOD).await?;
        let mut at = Reader(&payload);
        let method = (at.u16()?, at.u16()?);
        Ok((method, payload.split_off(4)))
    }

    /// The next frame of this kind; heartbeats and notices between are passed over.
    async fn frame(&mut self, wanted: u8) -> io::Result<Vec<u8>> {
        loop {
            let (kind, payload) = self.any_frame().await?;
            if kind == wanted {
                return Ok(payload);
            }
        }
    }

    async fn any_frame(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut head = [0; 7];
        self.stream.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
        // A broker that is not one answers with its own protocol header.
        if length > FRAME_MAX || head.starts_with(b"AMQP") {
            return Err(io::Error::other("this is not AMQP 0-9-1"));
        }
        let mut payload = vec![0; length + 1];
        self.stream.read_exact(&mut payload).await?;
        if payload.pop() != Some(FRAME_END) {
            return Err(io::Error::other("a frame has no end"));
        }
        Ok((head[0], payload))
    }
}

/// A close is the broker's refusal; everything else that was not asked for is passed over.
fn refused((method, arguments): &((u16, u16), Vec<u8>)) -> io::Result<()> {
    if !matches!(*method, CLOSE | (20, 40)) {
        return Ok(());
    }
    let mut at = Reader(arguments);
    at.u16()?;
    Err(io::Error::other(String::from_utf8_lossy(at.short()?).into_owned()))
}

async fn within<T>(work: impl Future<Output = io::Result<T>>) -> Result<T, LinkError> {
    match timeout(PATIENCE, work).await {
        Ok(done) => done.map_err(|e| LinkError::Lost(e.to_string())),
        Err(_) => Err(LinkError::Lost(format!("RabbitMQ did not answer within {} s", PATIENCE.as_secs()))),
    }
}

fn id((class, method): (u16, u16)) -> [u8; 4] {
    let (class, method) = (class.to_be_bytes(), method.to_be_bytes());
    [class[0], class[1], method[0], method[1]]
}

/// Names and passwords of ours are checked to be short long before.
fn short(out: &mut Vec<u8>, text: &[u8]) {
    let text = &text[..text.len().min(255)];
    out.push(text.len() as u8);
    out.extend(text);
}

fn long(out: &mut Vec<u8>, text: &[u8]) {
    out.extend((text.len() as u32).to_be_bytes());
    out.extend(text);
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> io::Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or(io::ErrorKind::UnexpectedEof)?;
        self.0 = rest;
        Ok(taken)
    }
    fn number<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        Ok(self.take(N)?.try_into().unwrap_or([0; N]))
    }
    fn u16(&mut self) -> io::Result<u16> {
        self.number().map(u16::from_be_bytes)
    }
    fn u64(&mut self) -> io::Result<u64> {
        self.number().map(u64::from_be_bytes)
    }
    fn short(&mut self) -> io::Result<&'a [u8]> {
        let length = self.take(1)?[0];
        self.take(usize::from(length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(properties: &[u8], routing_key: &[u8]) -> RawMessage {
        let (properties, routing_key) = (properties.to_vec(), routing_key.to_vec());
        RawMessage { tag: 1, exchange: b"notifications".to_vec(), routing_key, properties, body: Vec::new() }
    }

    #[test]
    fn only_what_lapin_chokes_on_is_unreadable() {
        // Flag bits: content_type 15, headers 13, message_id 7.
        assert!(raw(&[0, 0], b"order.paid").is_readable());
        assert!(raw(&[0, 0x80, 2, b'm', b'1'], b"").is_readable());
        assert!(!raw(&[0, 0x80, 2, 0xff, 0xfe], b"").is_readable());
        assert!(!raw(&[0, 0], b"k\xff").is_readable());
        let header = |name: &[u8], kind: u8| {
            let mut table = vec![name.len() as u8];
            table.extend(name);
            table.push(kind);
            [&[0x20, 0][..], &(table.len() as u32).to_be_bytes(), &table].concat()
        };
        assert!(raw(&header(b"h", b'V'), b"").is_readable(), "a header without a value");
        assert!(!raw(&header(b"h\xff", b'V'), b"").is_readable());
        assert!(!raw(&header(b"h", b'?'), b"").is_readable(), "a type that nobody knows");
    }

    #[test]
    fn broken_arguments_are_an_error_and_no_panic() {
        let mut at = Reader(&[5, b'a']);
        assert!(at.short().is_err());
        assert!(Reader(&[1]).u64().is_err());
        assert!(refused(&(CLOSE, vec![1, 2])).is_err());
        assert!(refused(&(CLOSE, [&[1, 2, 4][..], b"gone"].concat())).unwrap_err().to_string().contains("gone"));
        assert!(refused(&((10, 60), Vec::new())).is_ok(), "a notice that publishers are blocked");
    }
}
