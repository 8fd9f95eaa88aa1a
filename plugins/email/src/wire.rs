//! Bytes to replies and back, with bounded memory. Absent on purpose: what a reply means, timeouts.

use futures_util::FutureExt;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Four times what RFC 5321 allows; more is not an SMTP server.
const LINE_MAX: usize = 2048;
const REPLY_MAX: usize = 16 * 1024;
/// What we keep of the text for people.
const TEXT_MAX: usize = 500;

/// Plain or TLS.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// RFC 3463: class, subject, detail.
pub type Enhanced = (u8, u16, u16);

/// One complete reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub code: u16,
    pub enhanced: Option<Enhanced>,
    /// All lines, without codes, control characters and addresses.
    pub text: String,
    /// The lines as sent, without codes, for reading EHLO's keywords.
    pub lines: Vec<String>,
}

impl Reply {
    /// 2, 3, 4 or 5.
    pub fn class(&self) -> u16 {
        self.code / 100
    }
    /// `550_5.1.1` or `550`.
    pub fn word(&self) -> String {
        match self.enhanced {
            Some((c, s, d)) => format!("{}_{c}.{s}.{d}", self.code),
            None => self.code.to_string(),
        }
    }
}

/// Why no reply came.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    #[error("connection lost: {0}")]
    Lost(#[from] io::Error),
    #[error("not an SMTP reply: {0}")]
    NotSmtp(&'static str),
}

/// A stream and what was read of it but not yet understood.
pub struct Wire {
    io: Box<dyn Io>,
    buffer: Vec<u8>,
}

impl Wire {
    pub fn new(io: impl Io + 'static) -> Self {
        Self { io: Box::new(io), buffer: Vec::new() }
    }

    /// For the upgrade to TLS. `None` when the server said more than it was asked: bytes injected before the handshake
    /// must never be read as if they came after it.
    pub fn into_inner(self) -> Option<Box<dyn Io>> {
        self.buffer.is_empty().then_some(self.io)
    }

    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.io.write_all(bytes).await?;
        self.io.flush().await
    }

    pub async fn reply(&mut self) -> Result<Reply, WireError> {
        loop {
            if let Some(reply) = take_reply(&mut self.buffer)? {
                return Ok(reply);
            }
            let mut chunk = [0u8; 1024];
            let n = self.io.read(&mut chunk).await?;
            if n == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            self.buffer.extend_from_slice(&chunk[..n]);
        }
    }

    /// Nothing has arrived that nobody asked for, and the peer has not closed.
    pub fn is_quiet(&mut self) -> bool {
        if !self.buffer.is_empty() {
            return false;
        }
        let mut chunk = [0u8; 1024];
        match self.io.read(&mut chunk).now_or_never() {
            None => true,
            Some(Ok(n)) => {
                self.buffer.extend_from_slice(&chunk[..n]);
                false
            }
            Some(Err(_)) => false,
        }
    }

    /// Something was said that we have not read.
    pub fn has_unread(&self) -> bool {
        !self.buffer.is_empty()
    }
}

/// Takes the first complete reply off the buffer.
fn take_reply(buffer: &mut Vec<u8>) -> Result<Option<Reply>, WireError> {
    let (mut at, mut code, mut lines) = (0, None, Vec::new());
    loop {
        let Some(end) = buffer[at..].iter().position(|b| *b == b'\n') else {
            if buffer.len() - at > LINE_MAX {
                return Err(WireError::NotSmtp("a line is too long"));
            }
            return Ok(None);
        };
        let line = buffer[at..at + end].strip_suffix(b"\r").unwrap_or(&buffer[at..at + end]);
        at += end + 1;
        if line.len() > LINE_MAX || at > REPLY_MAX {
            return Err(WireError::NotSmtp("the reply is too long"));
        }
        let (this, last, text) = split_line(line)?;
        if *code.get_or_insert(this) != this {
            return Err(WireError::NotSmtp("its lines carry different codes"));
        }
        lines.push(text);
        if last {
            buffer.drain(..at);
            return Ok(Some(finish(this, lines)));
        }
    }
}

fn split_line(line: &[u8]) -> Result<(u16, bool, String), WireError> {
    let (digits, rest) = line.split_at_checked(3).ok_or(WireError::NotSmtp("a line without a code"))?;
    if !digits.iter().all(u8::is_ascii_digit) || !(b'2'..=b'5').contains(&digits[0]) {
        return Err(WireError::NotSmtp("a line without a code"));
    }
    let code = digits.iter().fold(0, |n, d| n * 10 + u16::from(d - b'0'));
    let (last, text) = match rest.split_first() {
        None => (true, &[][..]),
        Some((b' ', text)) => (true, text),
        Some((b'-', text)) => (false, text),
        Some(_) => return Err(WireError::NotSmtp("a code without a separator")),
    };
    Ok((code, last, String::from_utf8_lossy(text).into_owned()))
}

fn finish(code: u16, lines: Vec<String>) -> Reply {
    let enhanced = lines.first().and_then(|l| enhanced(l));
    let mut text = String::new();
    for line in &lines {
        let line = line.trim();
        let line = match enhanced {
            Some(e) if self::enhanced(line) == Some(e) => line.split_once(' ').map_or("", |(_, t)| t),
            _ => line,
        };
        for word in line.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()) {
            if !text.is_empty() {
                text.push(' ');
            }
            // Replies quote addresses; stored texts don't.
            text.push_str(if word.contains('@') { "(address)" } else { word });
        }
    }
    if let Some((cut, _)) = text.char_indices().nth(TEXT_MAX) {
        text.truncate(cut);
    }
    Reply { code, enhanced, text, lines }
}

/// `5.1.1` at the start of a reply's text.
fn enhanced(text: &str) -> Option<Enhanced> {
    let word = text.trim_start().split(' ').next()?;
    let mut parts = word.split('.');
    let class = match parts.next()? {
        "2" => 2,
        "4" => 4,
        "5" => 5,
        _ => return None,
    };
    let number = |p: Option<&str>| {
        p.filter(|s| (1..=3).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_digit())).and_then(|s| s.parse().ok())
    };
    let code = (class, number(parts.next())?, number(parts.next())?);
    parts.next().is_none().then_some(code)
}

/// A message as DATA wants it: CRLF line ends only (a lone CR or LF is how mails are smuggled), dots doubled, and a
/// line end at the end. The closing dot is sent apart.
pub fn stuff(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + message.len() / 50 + 2);
    let mut rest = message;
    let mut line_start = true;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            b'\r' | b'\n' => {
                if byte == b'\r' && rest.first() == Some(&b'\n') {
                    rest = &rest[1..];
                }
                out.extend_from_slice(b"\r\n");
                line_start = true;
                continue;
            }
            b'.' if line_start => out.extend_from_slice(b".."),
            _ => out.push(byte),
        }
        line_start = false;
    }
    if !line_start {
        out.extend_from_slice(b"\r\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(bytes: &[u8]) -> Result<Vec<Reply>, WireError> {
        let mut buffer = bytes.to_vec();
        let mut replies = Vec::new();
        while let Some(r) = take_reply(&mut buffer)? {
            replies.push(r);
        }
        Ok(replies)
    }

    #[test]
    fn reads_one_and_many_lines() {
        let replies = all(
            b"250-relay greets you\r\n250-SIZE 1000\r\n250 HELP\r\n550-5.1.1 <ada@x.org> no\r\n550 5.1.1 such user\r\n",
        )
        .unwrap();
        assert_eq!(replies[0].lines, ["relay greets you", "SIZE 1000", "HELP"]);
        assert_eq!(replies[1].enhanced, Some((5, 1, 1)));
        assert_eq!(replies[1].text, "(address) no such user");
        assert_eq!(replies[1].word(), "550_5.1.1");
        assert_eq!(all(b"354\r\n").unwrap()[0].code, 354);
        assert_eq!(all(b"250 ok\n").unwrap()[0].text, "ok");
    }

    #[test]
    fn half_a_reply_is_none_yet() {
        for half in ["", "2", "250", "250 ok", "250-a\r\n", "250-a\r\n250"] {
            assert!(all(half.as_bytes()).unwrap().is_empty(), "{half:?}");
        }
    }

    #[test]
    fn what_is_not_smtp_is_said_to_be() {
        for bad in [
            "HTTP/1.1 400 Bad Request\r\n",
            "\r\n",
            "99\r\n",
            "150 x\r\n",
            "650 x\r\n",
            "250x\r\n",
            "250-a\r\n251 b\r\n",
        ] {
            assert!(all(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(all(&[b'2'; LINE_MAX + 1]).is_err());
        assert!(all("250-x\r\n".repeat(4000).as_bytes()).is_err());
    }

    #[test]
    fn only_real_enhanced_codes_count() {
        for (text, want) in [
            ("5.7.26 no", Some((5, 7, 26))),
            ("5.1.1", Some((5, 1, 1))),
            ("3.0.0 x", None),
            ("5.1 x", None),
            ("5.1.1.1 x", None),
            ("5.1.x", None),
            ("5.1234.1 x", None),
            ("Ok 2.0.0", None),
        ] {
            assert_eq!(enhanced(text), want, "{text}");
        }
    }

    #[test]
    fn dots_are_doubled_and_line_ends_made_whole() {
        assert_eq!(stuff(b".a\r\n.\r\nb."), b"..a\r\n..\r\nb.\r\n");
        assert_eq!(stuff(b"a\n.\nb\r.\r"), b"a\r\n..\r\nb\r\n..\r\n");
        assert_eq!(stuff(b""), b"");
    }

    proptest! {
        #[test]
        fn no_message_can_end_the_transfer_early(message in proptest::collection::vec(prop_oneof![Just(b'.'), Just(b'\r'), Just(b'\n'), Just(b'x')], 0..64)) {
            let stuffed = stuff(&message);
            prop_assert!(!stuffed.windows(5).any(|w| w == b"\r\n.\r\n"));
            prop_assert!(!stuffed.starts_with(b".\r\n"));
            let lone = stuffed.iter().enumerate().any(|(i, b)| match b {
                b'\n' => i == 0 || stuffed[i - 1] != b'\r',
                b'\r' => stuffed.get(i + 1) != Some(&b'\n'),
                _ => false,
            });
            prop_assert!(!lone);
        }

        #[test]
        fn replies_do_not_depend_on_how_they_are_cut(cuts in proptest::collection::vec(1usize..9, 0..12)) {
            let bytes = b"220 hi\r\n250-a\r\n250 b\r\n354 go\r\n451 4.7.1 later\r\n";
            let (mut buffer, mut got, mut rest) = (Vec::new(), Vec::new(), &bytes[..]);
            for n in cuts.into_iter().chain([bytes.len()]) {
                let (head, tail) = rest.split_at(n.min(rest.len()));
                buffer.extend_from_slice(head);
                rest = tail;
                while let Some(r) = take_reply(&mut buffer).unwrap() { got.push(r); }
            }
            prop_assert_eq!(got, all(bytes).unwrap());
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = all(&bytes);
        }
    }
}
