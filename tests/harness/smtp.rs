//! A scripted SMTP server: answers as told, hangs, lies and hangs up, and keeps every mail it took.
//!
//! Owns: the dialogue's server side, plain and with TLS, a script per step, the record of commands and mails. Absent on
//! purpose: SMTP's rules. A test decides what is answered; without a script every step is answered as a good relay would.

use crate::wait::until;
use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use std::{
    collections::{HashMap, VecDeque},
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

/// A point of the dialogue that a script can take over.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Step {
    Greeting,
    Ehlo,
    StartTls,
    Auth,
    Mail,
    Rcpt,
    Rset,
    Data,
    /// The final dot.
    Dot,
}

impl Step {
    /// All that a plain dialogue of one mail passes, in order.
    pub const OF_ONE_MAIL: [Self; 6] = [Self::Greeting, Self::Ehlo, Self::Mail, Self::Rcpt, Self::Data, Self::Dot];
}

/// What the server does at a step instead of its usual answer.
#[derive(Clone, Debug)]
pub enum Act {
    /// The usual answer.
    Usual,
    /// These lines, CRLF added. At the dot a `2yz` takes the mail.
    Say(String),
    /// The same, after a while.
    Late(Duration, String),
    /// Nothing at all; the connection stays open.
    Hang,
    /// The connection ends.
    Drop,
    /// At the dot: takes the mail, then the connection ends without an answer.
    TakeAndDrop,
    /// At the dot: takes the mail, and never answers.
    TakeAndHang,
}

impl Act {
    pub fn say(text: &str) -> Self {
        Self::Say(text.to_owned())
    }
}

/// A mail that was taken.
#[derive(Clone, Debug)]
pub struct Received {
    /// Counted from 1.
    pub connection: usize,
    pub from: String,
    pub to: Vec<String>,
    /// What MAIL said behind the address.
    pub parameters: String,
    pub encrypted: bool,
    pub user: Option<String>,
    /// As it came, dots undone.
    pub source: Vec<u8>,
}

impl Received {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.source).into_owned()
    }
    /// Header lines, unfolded: (name, value).
    pub fn headers(&self) -> Vec<(String, String)> {
        let text = self.text();
        let head = text.split_once("\r\n\r\n").map_or(text.as_str(), |(head, _)| head);
        let unfolded = head.replace("\r\n ", " ").replace("\r\n\t", " ");
        let line = |l: &str| l.split_once(':').map(|(n, v)| (n.to_owned(), v.trim().to_owned()));
        unfolded.split("\r\n").filter_map(line).collect()
    }
    /// The only header of this name.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<String> {
        let mut found: Vec<_> =
            self.headers().into_iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v).collect();
        assert!(found.len() <= 1, "{name} stands {} times in {}", found.len(), self.text());
        found.pop()
    }
    #[track_caller]
    pub fn message_id(&self) -> String {
        self.header("Message-ID").expect("a mail has a Message-ID")
    }
}

#[derive(Default)]
struct State {
    script: HashMap<Step, VecDeque<Act>>,
    received: Vec<Received>,
    /// (connection, command line), AUTH's secrets left out.
    commands: Vec<(usize, String)>,
    connections: usize,
    open: usize,
}

struct Shared {
    state: Mutex<State>,
    options: Options,
    tls: Option<TlsAcceptor>,
}

#[derive(Clone, Debug, Default)]
struct Options {
    start_tls: bool,
    implicit: bool,
    utf8: bool,
    auth: Option<(String, String)>,
    mechanisms: &'static str,
}

/// How a server is to be started.
#[derive(Clone, Debug)]
pub struct Builder(Options);

impl Builder {
    /// Offers STARTTLS.
    pub fn start_tls(mut self) -> Self {
        self.0.start_tls = true;
        self
    }
    /// TLS from the first byte.
    pub fn implicit_tls(mut self) -> Self {
        self.0.implicit = true;
        self
    }
    pub fn utf8(mut self) -> Self {
        self.0.utf8 = true;
        self
    }
    /// Wants these before MAIL. `mechanisms`: what EHLO offers.
    pub fn auth(mut self, user: &str, password: &str, mechanisms: &'static str) -> Self {
        self.0.auth = Some((user.into(), password.into()));
        self.0.mechanisms = mechanisms;
        self
    }
    pub async fn start(self) -> SmtpServer {
        SmtpServer::run(self.0).await
    }
}

pub struct SmtpServer {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
    /// Holds `ca.pem`.
    folder: TempDir,
}

impl Drop for SmtpServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl SmtpServer {
    pub fn builder() -> Builder {
        Builder(Options::default())
    }
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    async fn run(options: Options) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let folder = TempDir::with_prefix("campanile-smtp-").expect("a temporary folder");
        let tls = (options.start_tls || options.implicit).then(|| {
            let (acceptor, pem) = certificate();
            std::fs::write(folder.path().join("ca.pem"), pem).expect("the certificate can be written");
            acceptor
        });
        let shared = Arc::new(Shared { state: Mutex::default(), options, tls });
        let task = tokio::spawn(accept(listener, shared.clone()));
        Self { address, shared, task, folder }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }

    /// The next times this step is reached, by whatever connection, it does these in turn; then the usual again.
    pub fn script(&self, step: Step, acts: impl IntoIterator<Item = Act>) {
        self.state().script.entry(step).or_default().extend(acts);
    }
    pub fn clear_script(&self) {
        self.state().script.clear();
    }

    /// `smtp://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("smtp://{}", self.address)
    }
    /// A private CA's certificate that vouches for this server as `localhost`.
    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    pub fn received(&self) -> Vec<Received> {
        self.state().received.clone()
    }
    pub fn commands(&self) -> Vec<(usize, String)> {
        self.state().commands.clone()
    }
    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.state().connections
    }
    /// Connections open now.
    pub fn open(&self) -> usize {
        self.state().open
    }

    /// Waits until at least `n` mails were taken, and returns them all.
    pub async fn wait_for(&self, n: usize) -> Vec<Received> {
        until(&format!("{n} mails were taken"), || async {
            let received = self.received();
            (received.len() >= n).then_some(received)
        })
        .await
    }

    /// Waits until a command that starts so has come `n` times.
    pub async fn wait_for_command(&self, start: &str, n: usize) {
        until(&format!("{start} came {n} times"), || async {
            (self.commands().iter().filter(|(_, c)| c.starts_with(start)).count() >= n).then_some(())
        })
        .await;
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn next(&self, step: Step) -> Act {
        self.state().script.get_mut(&step).and_then(VecDeque::pop_front).unwrap_or(Act::Usual)
    }
}

/// A certificate for `localhost` and 127.0.0.1, signed by a CA that nobody else knows.
fn certificate() -> (TlsAcceptor, String) {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    let ca_key = KeyPair::generate().expect("a key pair");
    let mut ca = CertificateParams::new(Vec::new()).expect("parameters of a CA");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.distinguished_name.push(DnType::CommonName, "Test CA");
    let ca_certificate = ca.self_signed(&ca_key).expect("a CA");
    let key = KeyPair::generate().expect("a key pair");
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let leaf = CertificateParams::new(names).expect("parameters of a certificate");
    let leaf = leaf.signed_by(&key, &Issuer::new(ca, ca_key)).expect("a certificate");
    let chain: Vec<CertificateDer<'static>> = vec![leaf.der().clone()];
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a private key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("TLS versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a server certificate");
    (TlsAcceptor::from(Arc::new(config)), ca_certificate.pem())
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((tcp, _)) = listener.accept().await {
        let number = {
            let mut state = shared.state();
            state.connections += 1;
            state.open += 1;
            state.connections
        };
        let shared = shared.clone();
        tokio::spawn(async move {
            // An error only says that the client went away.
            let _ = Session::begin(tcp, number, shared.clone()).await;
            shared.state().open -= 1;
        });
    }
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// How a step ended.
enum Went {
    /// A reply was sent; its first digit.
    On(char),
    Over,
}

struct Session {
    io: Box<dyn Io>,
    buffer: Vec<u8>,
    number: usize,
    shared: Arc<Shared>,
    encrypted: bool,
    user: Option<String>,
    from: Option<(String, String)>,
    to: Vec<String>,
}

impl Session {
    async fn begin(tcp: TcpStream, number: usize, shared: Arc<Shared>) -> io::Result<()> {
        tcp.set_nodelay(true)?;
        let implicit = shared.options.implicit;
        let io: Box<dyn Io> = match &shared.tls {
            Some(tls) if implicit => Box::new(tls.accept(tcp).await?),
            _ => Box::new(tcp),
        };
        let mut session = Self {
            io,
            buffer: Vec::new(),
            number,
            shared,
            encrypted: implicit,
            user: None,
            from: None,
            to: Vec::new(),
        };
        session.serve().await
    }

    async fn serve(&mut self) -> io::Result<()> {
        if matches!(self.step(Step::Greeting, "220 scripted relay").await?, Went::Over) {
            return Ok(());
        }
        while let Some(line) = self.line().await? {
            let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
            let shown =
                if verb == "AUTH" { line.split(' ').take(2).collect::<Vec<_>>().join(" ") } else { line.clone() };
            self.shared.state().commands.push((self.number, shown));
            let went = match verb.as_str() {
                "EHLO" | "HELO" => {
                    let offer = self.offer();
                    self.step(Step::Ehlo, &offer).await?
                }
                "STARTTLS" => self.start_tls().await?,
                "AUTH" => self.auth(&line).await?,
                "MAIL" => self.mail(&line).await?,
                "RCPT" => {
                    let went = self.step(Step::Rcpt, "250 2.1.5 recipient ok").await?;
                    if matches!(went, Went::On('2')) {
                        self.to.push(path(&line).0);
                    }
                    went
                }
                "RSET" => {
                    (self.from, self.to) = (None, Vec::new());
                    self.step(Step::Rset, "250 2.0.0 reset").await?
                }
                "DATA" => self.data().await?,
                "NOOP" => self.say("250 2.0.0 ok").await?,
                "QUIT" => {
                    self.say("221 2.0.0 bye").await?;
                    return Ok(());
                }
                _ => self.say("500 5.5.2 what?").await?,
            };
            if matches!(went, Went::Over) {
                return Ok(());
            }
        }
        Ok(())
    }

    fn offer(&self) -> String {
        let o = &self.shared.options;
        let mut lines = vec!["scripted relay".to_owned(), "SIZE 10000000".into(), "8BITMIME".into()];
        if o.start_tls && !self.encrypted {
            lines.push("STARTTLS".into());
        }
        if o.utf8 {
            lines.push("SMTPUTF8".into());
        }
        if o.auth.is_some() && (self.encrypted || !o.start_tls) {
            lines.push(format!("AUTH {}", o.mechanisms));
        }
        let last = lines.len() - 1;
        let line = |(i, l): (usize, &String)| format!("250{}{l}", if i == last { ' ' } else { '-' });
        lines.iter().enumerate().map(line).collect::<Vec<_>>().join("\r\n")
    }

    async fn start_tls(&mut self) -> io::Result<Went> {
        let went = self.step(Step::StartTls, "220 2.0.0 go ahead").await?;
        if matches!(went, Went::On('2')) {
            let plain = std::mem::replace(&mut self.io, Box::new(tokio::io::empty()));
            let tls = self.shared.tls.clone().ok_or_else(|| io::Error::other("no certificate"))?;
            self.io = Box::new(tls.accept(plain).await?);
            self.encrypted = true;
            self.buffer.clear();
        }
        Ok(went)
    }

    async fn auth(&mut self, line: &str) -> io::Result<Went> {
        let mut words = line.split(' ').skip(1);
        let decode = |text: &str| String::from_utf8(STANDARD.decode(text).unwrap_or_default()).unwrap_or_default();
        let mut answers = Vec::new();
        if words.next() == Some("PLAIN") {
            let token = decode(words.next().unwrap_or_default());
            answers.extend(token.split('\0').skip(1).map(str::to_owned));
        } else {
            for question in ["334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6"] {
                self.say(question).await?;
                answers.push(decode(&self.line().await?.unwrap_or_default()));
            }
        }
        let password = answers.pop().unwrap_or_default();
        let user = answers.pop().unwrap_or_default();
        let right = self.shared.options.auth.as_ref().is_some_and(|(u, p)| *u == user && *p == password);
        self.user = right.then_some(user);
        self.step(Step::Auth, if right { "235 2.7.0 welcome" } else { "535 5.7.8 wrong user or password" }).await
    }

    async fn mail(&mut self, line: &str) -> io::Result<Went> {
        if self.shared.options.auth.is_some() && self.user.is_none() {
            return self.say("530 5.7.0 authenticate first").await;
        }
        let usual = if self.from.is_some() { "503 5.5.1 one at a time" } else { "250 2.1.0 sender ok" };
        let went = self.step(Step::Mail, usual).await?;
        if matches!(went, Went::On('2')) {
            self.from = Some(path(line));
        }
        Ok(went)
    }

    async fn data(&mut self) -> io::Result<Went> {
        let usual = if self.to.is_empty() { "503 5.5.1 recipients first" } else { "354 go ahead" };
        let went = self.step(Step::Data, usual).await?;
        if !matches!(went, Went::On('3')) {
            return Ok(went);
        }
        let Some(source) = self.content().await? else { return Ok(Went::Over) };
        let act = self.shared.next(Step::Dot);
        let mail = Received {
            connection: self.number,
            from: self.from.clone().unwrap_or_default().0,
            parameters: self.from.take().unwrap_or_default().1,
            to: std::mem::take(&mut self.to),
            encrypted: self.encrypted,
            user: self.user.clone(),
            source,
        };
        let takes = match &act {
            Act::Usual | Act::TakeAndDrop | Act::TakeAndHang => true,
            Act::Say(text) | Act::Late(_, text) => text.starts_with('2'),
            Act::Hang | Act::Drop => false,
        };
        if takes {
            self.shared.state().received.push(mail);
        }
        self.act(act, "250 2.0.0 Ok: queued as 4F2A").await
    }

    /// Up to the final dot; `None` when the client went away before it.
    async fn content(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut source = Vec::new();
        while let Some(line) = self.raw_line().await? {
            if line == b".\r\n" {
                return Ok(Some(source));
            }
            source.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
        }
        Ok(None)
    }

    async fn step(&mut self, step: Step, usual: &str) -> io::Result<Went> {
        let act = self.shared.next(step);
        self.act(act, usual).await
    }

    async fn act(&mut self, act: Act, usual: &str) -> io::Result<Went> {
        match act {
            Act::Usual => self.say(usual).await,
            Act::Say(text) => self.say(&text).await,
            Act::Late(after, text) => {
                tokio::time::sleep(after).await;
                self.say(&text).await
            }
            Act::Drop | Act::TakeAndDrop => Ok(Went::Over),
            Act::Hang | Act::TakeAndHang => {
                // Until the client gives up.
                let mut sink = [0; 1024];
                while self.io.read(&mut sink).await? > 0 {}
                Ok(Went::Over)
            }
        }
    }

    async fn say(&mut self, text: &str) -> io::Result<Went> {
        self.io.write_all(text.as_bytes()).await?;
        self.io.write_all(b"\r\n").await?;
        self.io.flush().await?;
        Ok(Went::On(text.chars().next().unwrap_or('0')))
    }

    async fn line(&mut self) -> io::Result<Option<String>> {
        let line = self.raw_line().await?;
        Ok(line.map(|l| String::from_utf8_lossy(&l).trim_end_matches(['\r', '\n']).to_owned()))
    }

    async fn raw_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
                return Ok(Some(self.buffer.drain(..=end).collect()));
            }
            let mut chunk = [0; 4096];
            match self.io.read(&mut chunk).await? {
                0 => return Ok(None),
                n => self.buffer.extend_from_slice(&chunk[..n]),
            }
        }
    }
}

/// `MAIL FROM:<a@b> SIZE=3` → (`a@b`, `SIZE=3`).
fn path(line: &str) -> (String, String) {
    let inner = line.split_once('<').map_or("", |(_, rest)| rest);
    let (path, rest) = inner.split_once('>').unwrap_or((inner, ""));
    (path.to_owned(), rest.trim().to_owned())
}
