//! One SMTP connection, from the greeting to the reply to the final dot.
//!
//! Every phase has its own timeout. A connection counts as in step only between complete replies: whatever is cut
//! short (timeout, cancellation, surprise) leaves it out of step, and such a connection is dropped, never said
//! goodbye to. Absent on purpose: pipelining (one reply per command is what keeps mails and replies apart), pooling,
//! the meaning of replies.

use crate::{
    message::Mail,
    relay::{Protection, Relay},
    tls::Tls,
    wire::{Reply, Wire, WireError, stuff},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use std::{
    fmt::{self, Write as _},
    future::Future,
    io,
    time::Duration,
};
use tokio::{
    net::{TcpStream, lookup_host},
    time::{Instant, timeout},
};

/// Where in the dialogue something happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    Connect,
    Greeting,
    Hello,
    StartTls,
    Auth,
    Reset,
    Mail,
    Rcpt,
    Data,
    /// Sending the message.
    Content,
    /// From the final dot on: the point of no return lies behind.
    Dot,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connect",
            Self::Greeting => "the greeting",
            Self::Hello => "EHLO",
            Self::StartTls => "STARTTLS",
            Self::Auth => "AUTH",
            Self::Reset => "RSET",
            Self::Mail => "MAIL",
            Self::Rcpt => "RCPT",
            Self::Data => "DATA",
            Self::Content => "sending the message",
            Self::Dot => "the final dot",
        })
    }
}

/// Why a mail was not (surely) taken.
#[derive(Debug)]
pub enum Fault {
    Timeout(Phase),
    Lost(Phase, io::Error),
    /// A proper 4yz or 5yz.
    Refused(Phase, Reply),
    /// Anything that shows that we and the server don't mean the same step.
    OutOfStep(Phase, String),
    /// The handshake failed for a reason that time does not heal.
    Tls(String),
    /// The relay lacks what our configuration needs.
    Lacks(&'static str, String),
    /// The address needs SMTPUTF8 and the relay does not speak it.
    UnsupportedAddress,
    /// The delivery is no longer ours; nothing was sent.
    NotPermitted,
}

/// Timeouts by phase.
#[derive(Clone, Copy, Debug)]
pub struct Phases {
    pub connect: Duration,
    pub command: Duration,
    pub data: Duration,
    pub dot: Duration,
}

/// The phases, within what is left of the whole attempt.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    pub phases: Phases,
    pub until: Instant,
}

impl Budget {
    fn of(&self, phase: Phase) -> Duration {
        let own = match phase {
            Phase::Connect => self.phases.connect,
            Phase::Data | Phase::Content => self.phases.data,
            Phase::Dot => self.phases.dot,
            _ => self.phases.command,
        };
        own.min(self.until.saturating_duration_since(Instant::now()))
    }
}

/// What EHLO offered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Features {
    start_tls: bool,
    utf8: bool,
    eight_bit: bool,
    size: bool,
    auth_plain: bool,
    auth_login: bool,
}

impl Features {
    fn read(reply: &Reply) -> Self {
        let mut found = Self::default();
        for line in reply.lines.iter().skip(1) {
            // `AUTH=PLAIN` is an old spelling that some relays still add.
            let line = line.to_ascii_uppercase().replace('=', " ");
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("STARTTLS") => found.start_tls = true,
                Some("SMTPUTF8") => found.utf8 = true,
                Some("8BITMIME") => found.eight_bit = true,
                Some("SIZE") => found.size = true,
                Some("AUTH") => {
                    for mechanism in words {
                        found.auth_plain |= mechanism == "PLAIN";
                        found.auth_login |= mechanism == "LOGIN";
                    }
                }
                _ => {}
            }
        }
        found
    }
}

/// How to get a connection.
#[derive(Clone)]
pub struct Dialler {
    pub relay: Relay,
    pub tls: Option<Tls>,
    pub hello: String,
}

pub struct Connection {
    wire: Wire,
    features: Features,
    opened: Instant,
    mails: u32,
    /// False from the first byte of a command until its whole reply is read.
    in_step: bool,
    /// A transaction was begun and not completed.
    needs_reset: bool,
    /// The server announced its end (421).
    ending: bool,
}

impl Dialler {
    /// From nothing to ready for MAIL.
    pub async fn connect(&self, budget: &Budget) -> Result<Connection, Fault> {
        let tcp = self.tcp(budget).await?;
        let wire = match (&self.tls, self.relay.protection) {
            (Some(tls), Protection::Implicit) => handshake(tls, tcp, budget).await?,
            _ => Wire::new(tcp),
        };
        let mut c = Connection {
            wire,
            features: Features::default(),
            opened: Instant::now(),
            mails: 0,
            in_step: false,
            needs_reset: false,
            ending: false,
        };
        let greeting = c.read(Phase::Greeting, budget).await?;
        c.expect(Phase::Greeting, greeting, 2)?;
        c.hello(&self.hello, budget).await?;
        if let (Some(tls), Protection::StartTls) = (&self.tls, self.relay.protection) {
            c = c.start_tls(tls, budget).await?;
            c.hello(&self.hello, budget).await?;
        }
        if let Some(credentials) = &self.relay.credentials {
            c.auth(&credentials.user, credentials.password.expose(), budget).await?;
        }
        Ok(c)
    }

    /// Tries each address of the host, sharing the time so that a dead first one does not eat it all.
    async fn tcp(&self, budget: &Budget) -> Result<TcpStream, Fault> {
        let until = Instant::now() + budget.of(Phase::Connect);
        let addresses: Vec<_> =
            timeout(budget.of(Phase::Connect), lookup_host((self.relay.host.as_str(), self.relay.port)))
                .await
                .map_err(|_| Fault::Timeout(Phase::Connect))?
                .map_err(|e| Fault::Lost(Phase::Connect, e))?
                .collect();
        let mut last = Fault::Lost(Phase::Connect, io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        for (i, address) in addresses.iter().enumerate() {
            let share = until.saturating_duration_since(Instant::now()) / (addresses.len() - i) as u32;
            match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(tcp)) => {
                    // Commands are small and wait for their reply: never hold one back.
                    let _ = tcp.set_nodelay(true);
                    return Ok(tcp);
                }
                Ok(Err(e)) => last = Fault::Lost(Phase::Connect, e),
                Err(_) => last = Fault::Timeout(Phase::Connect),
            }
        }
        Err(last)
    }
}

async fn handshake(tls: &Tls, io: impl crate::wire::Io + 'static, budget: &Budget) -> Result<Wire, Fault> {
    match timeout(budget.of(Phase::Connect), tls.connector.connect(tls.name.clone(), io)).await {
        Err(_) => Err(Fault::Timeout(Phase::Connect)),
        Ok(Ok(stream)) => Ok(Wire::new(stream)),
        // rustls wraps its verdicts; all other errors are the network's.
        Ok(Err(e)) if e.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<rustls::Error>) => {
            Err(Fault::Tls(e.to_string()))
        }
        Ok(Err(e)) => Err(Fault::Lost(Phase::Connect, e)),
    }
}

impl Connection {
    /// Fit for another mail: in step, and not at its end.
    pub fn is_reusable(&self) -> bool {
        self.in_step && !self.ending && !self.wire.has_unread()
    }
    pub fn age(&self) -> Duration {
        self.opened.elapsed()
    }
    pub fn mails(&self) -> u32 {
        self.mails
    }
    /// Alive as far as can be seen without asking, and silent as it should be.
    pub fn is_quiet(&mut self) -> bool {
        self.in_step && self.wire.is_quiet()
    }
    /// A short goodbye that nobody waits for.
    pub async fn quit(mut self) {
        if self.in_step {
            let _ = timeout(Duration::from_secs(1), self.wire.write(b"QUIT\r\n")).await;
        }
    }

    async fn within<T>(
        phase: Phase,
        budget: &Budget,
        work: impl Future<Output = Result<T, WireError>>,
    ) -> Result<T, Fault> {
        match timeout(budget.of(phase), work).await {
            Err(_) => Err(Fault::Timeout(phase)),
            Ok(Ok(v)) => Ok(v),
            Ok(Err(WireError::Lost(e))) => Err(Fault::Lost(phase, e)),
            Ok(Err(e @ WireError::NotSmtp(_))) => Err(Fault::OutOfStep(phase, e.to_string())),
        }
    }

    async fn read(&mut self, phase: Phase, budget: &Budget) -> Result<Reply, Fault> {
        self.in_step = false;
        let reply = Self::within(phase, budget, self.wire.reply()).await?;
        Ok(self.note(reply))
    }

    /// One command, one reply. Neither its text nor its arguments ever reach a log.
    async fn command(&mut self, phase: Phase, line: &str, budget: &Budget) -> Result<Reply, Fault> {
        debug_assert!(!line.contains(['\r', '\n']), "a command is one line");
        if self.wire.has_unread() {
            self.in_step = false;
            return Err(Fault::OutOfStep(phase, "the server spoke unasked".into()));
        }
        self.in_step = false;
        let wire = &mut self.wire;
        let reply = Self::within(phase, budget, async {
            wire.write(format!("{line}\r\n").as_bytes()).await?;
            wire.reply().await
        })
        .await?;
        Ok(self.note(reply))
    }

    /// A reply of this class, or the fault it is. After anything out of step the connection is, too.
    fn expect(&mut self, phase: Phase, reply: Reply, class: u16) -> Result<Reply, Fault> {
        match reply.class() {
            4 | 5 if reply.code != 503 => Err(Fault::Refused(phase, reply)),
            c if c == class => Ok(reply),
            _ => {
                self.in_step = false;
                Err(Fault::OutOfStep(phase, format!("{} {}", reply.word(), reply.text)))
            }
        }
    }

    fn note(&mut self, reply: Reply) -> Reply {
        self.in_step = true;
        self.ending |= reply.code == 421;
        reply
    }

    async fn hello(&mut self, name: &str, budget: &Budget) -> Result<(), Fault> {
        let reply = self.command(Phase::Hello, &format!("EHLO {name}"), budget).await?;
        if matches!(reply.code, 500 | 502 | 504) {
            // An old relay: no extensions, which is enough unless we need TLS or AUTH.
            let reply = self.command(Phase::Hello, &format!("HELO {name}"), budget).await?;
            return self.expect(Phase::Hello, reply, 2).map(drop);
        }
        self.features = Features::read(&self.expect(Phase::Hello, reply, 2)?);
        Ok(())
    }

    async fn start_tls(mut self, tls: &Tls, budget: &Budget) -> Result<Self, Fault> {
        if !self.features.start_tls {
            return Err(Fault::Lacks("tls_unsupported", "the relay does not offer STARTTLS".into()));
        }
        let reply = self.command(Phase::StartTls, "STARTTLS", budget).await?;
        self.expect(Phase::StartTls, reply, 2)?;
        let Some(io) = self.wire.into_inner() else {
            return Err(Fault::OutOfStep(Phase::StartTls, "the server spoke before the handshake".into()));
        };
        let wire = handshake(tls, io, budget).await?;
        // What was said in the clear does not count.
        Ok(Self { wire, features: Features::default(), ..self })
    }

    async fn auth(&mut self, user: &str, password: &str, budget: &Budget) -> Result<(), Fault> {
        let reply = if self.features.auth_plain {
            let token = STANDARD.encode(format!("\0{user}\0{password}"));
            self.command(Phase::Auth, &format!("AUTH PLAIN {token}"), budget).await?
        } else if self.features.auth_login {
            let mut reply = self.command(Phase::Auth, "AUTH LOGIN", budget).await?;
            for answer in [user, password] {
                if reply.code != 334 {
                    break;
                }
                reply = self.command(Phase::Auth, &STANDARD.encode(answer), budget).await?;
            }
            reply
        } else {
            let what = "the relay offers neither AUTH PLAIN nor AUTH LOGIN on this connection";
            return Err(Fault::Lacks("auth_unsupported", what.into()));
        };
        self.expect(Phase::Auth, reply, 2).map(drop)
    }

    /// One mail to one recipient. `Ok` is a 2yz reply to the final dot and nothing else.
    ///
    /// `permitted` is asked before DATA and once more right before the dot.
    pub async fn send<F: Future<Output = bool>>(
        &mut self,
        mail: &Mail,
        budget: &Budget,
        permitted: impl Fn() -> F,
    ) -> Result<Reply, Fault> {
        if mail.needs_utf8 && !self.features.utf8 {
            return Err(Fault::UnsupportedAddress);
        }
        if self.needs_reset {
            let reply = self.command(Phase::Reset, "RSET", budget).await?;
            self.expect(Phase::Reset, reply, 2)?;
        }
        self.needs_reset = true;
        self.mails += 1;
        let content = stuff(&mail.source);
        let line = self.mail_line(mail, content.len());
        let reply = self.command(Phase::Mail, &line, budget).await?;
        self.expect(Phase::Mail, reply, 2)?;
        let reply = self.command(Phase::Rcpt, &format!("RCPT TO:<{}>", mail.recipient), budget).await?;
        self.expect(Phase::Rcpt, reply, 2)?;
        if !permitted().await {
            return Err(Fault::NotPermitted);
        }
        let started = Instant::now();
        let reply = self.command(Phase::Data, "DATA", budget).await?;
        self.expect(Phase::Data, reply, 3)?;
        self.in_step = false;
        self.content(&content, started, budget).await?;
        if !permitted().await {
            // Without the dot the server keeps nothing; the connection is out of step and will be dropped.
            return Err(Fault::NotPermitted);
        }
        let wire = &mut self.wire;
        let reply = Self::within(Phase::Dot, budget, async {
            wire.write(b".\r\n").await?;
            wire.reply().await
        })
        .await?;
        let reply = self.note(reply);
        self.needs_reset = false;
        self.expect(Phase::Dot, reply, 2)
    }

    fn mail_line(&self, mail: &Mail, size: usize) -> String {
        let mut line = format!("MAIL FROM:<{}>", mail.sender);
        if self.features.size {
            // Writing to a String can't fail.
            let _ = write!(line, " SIZE={size}");
        }
        if self.features.eight_bit && !mail.source.is_ascii() {
            line.push_str(" BODY=8BITMIME");
        }
        if mail.needs_utf8 {
            line.push_str(" SMTPUTF8");
        }
        line
    }

    /// The message without its dot, within what DATA left of its time. A server that speaks now has given up on it.
    async fn content(&mut self, content: &[u8], started: Instant, budget: &Budget) -> Result<(), Fault> {
        let left = Budget { until: budget.until.min(started + budget.phases.data), ..*budget };
        let wire = &mut self.wire;
        let written = Self::within(Phase::Content, &left, async { Ok(wire.write(content).await?) }).await;
        if matches!(written, Err(Fault::Timeout(_))) || (written.is_ok() && self.wire.is_quiet()) {
            return written;
        }
        // It said something, or closed: the reason may be waiting to be read.
        let grace = Duration::from_millis(200).min(left.of(Phase::Content));
        match timeout(grace, self.wire.reply()).await {
            Ok(Ok(reply)) => match self.expect(Phase::Content, reply, 0) {
                Err(e) => Err(e),
                Ok(_) => Err(Fault::OutOfStep(Phase::Content, "the server spoke before the dot".into())),
            },
            Ok(Err(WireError::NotSmtp(what))) => Err(Fault::OutOfStep(Phase::Content, what.into())),
            Ok(Err(WireError::Lost(e))) => Err(Fault::Lost(Phase::Content, e)),
            Err(_) => match written {
                Err(e) => Err(e),
                Ok(()) => Err(Fault::OutOfStep(Phase::Content, "the server spoke before the dot".into())),
            },
        }
    }
}
