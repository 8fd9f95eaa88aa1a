//! Template files, compiled once, each part falling back on its own: type's folder → `default` of the operator's
//! folder → built-in `default`.

use super::RenderError;
use anyhow::{Context, bail};
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value, value::Serde};
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    error::Error,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Bounds time and memory (64 bytes of data per unit): far more than any mail, far less than a second.
const FUEL: u64 = 200_000;
const RECURSION: usize = 64;
const OUTPUT_MAX: usize = 1024 * 1024;
/// A template larger than its largest output is a mistake.
const SOURCE_MAX: u64 = OUTPUT_MAX as u64;

const DEFAULT: &str = "default";
const UNSUBSCRIBE: &str = "unsubscribe.html";
const BUILT_IN: [(Part, &str); 3] = [
    (Part::Subject, include_str!("../../../../templates/email/default/subject.txt")),
    (Part::Text, include_str!("../../../../templates/email/default/body.txt")),
    (Part::Html, include_str!("../../../../templates/email/default/body.html")),
];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    Subject,
    Text,
    Html,
}

impl Part {
    const ALL: [Self; 3] = [Self::Subject, Self::Text, Self::Html];
    const fn file(self) -> &'static str {
        match self {
            Self::Subject => "subject.txt",
            Self::Text => "body.txt",
            Self::Html => "body.html",
        }
    }
}

pub struct Templates {
    env: Environment<'static>,
    /// By the type that has a folder, and `default`: how it is called in attempts.
    versions: HashMap<String, String>,
}

impl Templates {
    pub fn load(dir: Option<&Path>) -> anyhow::Result<Self> {
        let mut env = Environment::new();
        env.set_fuel(Some(FUEL));
        env.set_recursion_limit(RECURSION);
        // `data` is free: what a notification lacks renders as nothing, at any depth.
        env.set_undefined_behavior(UndefinedBehavior::Chainable);
        env.set_auto_escape_callback(|name| {
            if Path::new(name).extension().is_some_and(|e| e == "html") { AutoEscape::Html } else { AutoEscape::None }
        });
        for (part, source) in BUILT_IN {
            env.add_template_owned(name(DEFAULT, part), source).context("the built-in mail template is broken")?;
        }
        env.add_template(UNSUBSCRIBE, include_str!("../../../../templates/email/unsubscribe.html"))
            .context("the built-in unsubscribe page is broken")?;
        let mut made = Self { env, versions: HashMap::new() };
        let mut kinds = vec![DEFAULT.to_owned()];
        if let Some(dir) = dir {
            kinds.extend(made.load_dir(dir).map_err(|e| e.context("email.templates_dir"))?);
        }
        for kind in kinds {
            let version = made.version(&kind);
            made.versions.insert(kind, version);
        }
        Ok(made)
    }

    /// `email/invoice 1f8a02c4`: the beginning of the hash of what its parts say.
    fn version(&self, kind: &str) -> String {
        let mut hash = Sha256::new();
        for part in Part::ALL {
            let source =
                self.env.get_template(&self.known(kind, part)).map_or(String::new(), |t| t.source().to_owned());
            // With its length, so that a line may not wander from one part into the next unnoticed.
            hash.update((source.len() as u64).to_le_bytes());
            hash.update(source);
        }
        let hash = hash.finalize();
        format!("email/{kind} {:02x}{:02x}{:02x}{:02x}", hash[0], hash[1], hash[2], hash[3])
    }

    /// How the template of this type is called, with its version.
    pub fn called(&self, kind: &str) -> Option<&str> {
        self.versions.get(kind).or_else(|| self.versions.get(DEFAULT)).map(String::as_str)
    }

    /// The types that have a folder.
    fn load_dir(&mut self, dir: &Path) -> anyhow::Result<Vec<String>> {
        let mut kinds = Vec::new();
        for entry in fs::read_dir(dir).with_context(|| format!("reading the folder {}", dir.display()))? {
            let folder = entry.with_context(|| format!("reading the folder {}", dir.display()))?.path();
            if !folder.is_dir() {
                continue;
            }
            let Some(kind) = folder.file_name().and_then(|n| n.to_str()) else {
                bail!("{} is not named in UTF-8", folder.display());
            };
            let mut found = false;
            for part in Part::ALL {
                let file = folder.join(part.file());
                if file.is_file() {
                    found = true;
                    self.load_file(name(kind, part), &file)?;
                }
            }
            if !found {
                bail!("{} holds none of subject.txt, body.txt, body.html", folder.display());
            }
            kinds.push(kind.to_owned());
        }
        Ok(kinds)
    }

    fn load_file(&mut self, name: String, file: &Path) -> anyhow::Result<()> {
        let size = fs::metadata(file).with_context(|| format!("reading {}", file.display()))?.len();
        if size > SOURCE_MAX {
            bail!("{}: has {size} bytes; a template has at most {SOURCE_MAX}", file.display());
        }
        let source = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        self.env.add_template_owned(name, source).map_err(|e| anyhow::anyhow!(at(file, &e)))
    }

    pub fn render(&self, kind: &str, part: Part, context: &Value) -> Result<String, RenderError> {
        self.run(self.known(kind, part), context)
    }

    /// The type's own part, else the one of all.
    fn known(&self, kind: &str, part: Part) -> String {
        let own = name(kind, part);
        if self.env.get_template(&own).is_ok() { own } else { name(DEFAULT, part) }
    }

    pub fn unsubscribe(&self, context: &serde_json::Value) -> Result<String, RenderError> {
        self.run(UNSUBSCRIBE.to_owned(), &Value::from(Serde(context)))
    }

    fn run(&self, name: String, context: &Value) -> Result<String, RenderError> {
        let mut out = Bounded(Vec::new());
        let done = self.env.get_template(&name).and_then(|t| t.render_captured_to(context.clone(), &mut out).map(drop));
        match done.map(|()| String::from_utf8(out.0)) {
            Ok(Ok(text)) => Ok(text),
            Ok(Err(_)) => Err(RenderError { template: name, message: "rendered something that is not UTF-8".into() }),
            Err(e) => Err(RenderError { message: said(&e), template: name }),
        }
    }
}

/// Slashes can't be part of a folder's name, so a type with one finds no folder.
fn name(kind: &str, part: Part) -> String {
    format!("{kind}/{}", part.file())
}

fn at(file: &Path, e: &minijinja::Error) -> String {
    let file: PathBuf = file.into();
    match e.line() {
        Some(line) => format!("{}:{line}: {}", file.display(), words(e)),
        None => format!("{}: {}", file.display(), words(e)),
    }
}

fn said(e: &minijinja::Error) -> String {
    match e.line() {
        Some(line) => format!("line {line}: {}", words(e)),
        None => words(e),
    }
}

/// Kind and detail; a payload's text is never part of either.
fn words(e: &minijinja::Error) -> String {
    let detail = e.detail().map(|d| format!(": {d}")).unwrap_or_default();
    let source = e.source().map(|s| format!(" ({s})")).unwrap_or_default();
    format!("{}{detail}{source}", e.kind())
}

/// Takes up to [`OUTPUT_MAX`] bytes.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > OUTPUT_MAX {
            return Err(io::Error::other("the output is larger than 1 MiB"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
