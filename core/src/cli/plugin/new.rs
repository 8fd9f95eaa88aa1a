//! `campanile plugin new`: a channel to begin with, in one of four languages.
//!
//! The templates are whole projects in `plugins/templates`, built and run by the tests as they are; here only names change.

use crate::cli::{
    exit::{Failure, Outcome},
    output::Output,
};
use clap::ValueEnum;
use serde_json::json;
use std::{
    fs, io,
    path::{Path, PathBuf},
};

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Name of the channel: lower-case letters, digits and underscores.
    name: String,
    /// Language to write it in.
    #[arg(long, value_enum, default_value_t = Language::Rust)]
    lang: Language,
    /// Folder to write to; without it one of that name, here.
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
    /// Rust: build against the SDK in this folder, `…/plugins/sdk` of a checkout. Without it the checkout around the new
    /// folder, if it is in one, else the published crate.
    #[arg(long, value_name = "FOLDER")]
    sdk_path: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Language {
    Rust,
    C,
    Zig,
    Go,
}

/// (where it goes, what stands in it)
type Files = &'static [(&'static str, &'static str)];

macro_rules! files {
    ($($to:literal = $from:literal,)*) => { &[$(($to, include_str!(concat!("../../../../plugins/", $from))),)*] };
}

const RUST: Files = files! {
    "Cargo.toml" = "templates/rust/Cargo.toml",
    "src/lib.rs" = "templates/rust/src/lib.rs",
    "tests/conformance.rs" = "templates/rust/tests/conformance.rs",
    "config.example.json" = "templates/rust/config.example.json",
    "README.md" = "templates/rust/README.md",
    "LICENSE" = "templates/LICENSE",
    ".gitignore" = "templates/rust/gitignore",
    ".github/workflows/ci.yml" = "templates/rust/ci.yml",
};
const C: Files = files! {
    "plugin.c" = "templates/c/plugin.c",
    "campanile_plugin.h" = "abi/include/campanile_plugin.h",
    "Makefile" = "templates/c/Makefile",
    "config.example.json" = "templates/c/config.example.json",
    "README.md" = "templates/c/README.md",
    "LICENSE" = "templates/LICENSE",
    ".gitignore" = "templates/c/gitignore",
    ".github/workflows/ci.yml" = "templates/c/ci.yml",
};
const ZIG: Files = files! {
    "plugin.zig" = "templates/zig/plugin.zig",
    "campanile_plugin.h" = "abi/include/campanile_plugin.h",
    "Makefile" = "templates/zig/Makefile",
    "config.example.json" = "templates/zig/config.example.json",
    "README.md" = "templates/zig/README.md",
    "LICENSE" = "templates/LICENSE",
    ".gitignore" = "templates/zig/gitignore",
    ".github/workflows/ci.yml" = "templates/zig/ci.yml",
};
const GO: Files = files! {
    "main.go" = "templates/go/main.go",
    "bridge.c" = "templates/go/bridge.c",
    "bridge.h" = "templates/go/bridge.h",
    "campanile_plugin.h" = "abi/include/campanile_plugin.h",
    "go.mod" = "templates/go/go.mod",
    "Makefile" = "templates/go/Makefile",
    "config.example.json" = "templates/go/config.example.json",
    "README.md" = "templates/go/README.md",
    "LICENSE" = "templates/LICENSE",
    ".gitignore" = "templates/go/gitignore",
    ".github/workflows/ci.yml" = "templates/go/ci.yml",
};

impl Language {
    fn files(self) -> Files {
        match self {
            Self::Rust => RUST,
            Self::C => C,
            Self::Zig => ZIG,
            Self::Go => GO,
        }
    }

    /// How it is built, and the file that comes of it.
    fn build(self, name: &str) -> (&'static str, String) {
        match self {
            Self::Rust => ("cargo build --release", format!("target/release/lib{name}.so")),
            Self::C | Self::Zig | Self::Go => ("make", format!("{name}.so")),
        }
    }
}

/// What the templates call themselves, and where theirs is the SDK.
const NAME: &str = "my_channel";
const SDK: &str = "path = \"../../sdk\"";
/// Words that can't name a crate or would be taken for something else.
const TAKEN: [&str; 42] = [
    "abstract",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "campanile_plugin",
    "const",
    "continue",
    "core",
    "crate",
    "dyn",
    "else",
    "email",
    "enum",
    "extern",
    "false",
    "fn",
    "for",
    "gen",
    "if",
    "impl",
    "in",
    "let",
    "loop",
    "match",
    "mod",
    "move",
    "mut",
    "pub",
    "ref",
    "return",
    "self",
    "serde",
    "static",
    "std",
    "struct",
    "test",
    "trait",
    "type",
    "websocket",
];

pub fn run(args: &Args, out: Output) -> Outcome {
    let name = args.name.as_str();
    check_name(name)?;
    let dir = args.dir.clone().unwrap_or_else(|| PathBuf::from(name));
    let failed = |e: io::Error| Failure::failed(format!("{} can't be written", dir.display())).why(e);
    if fs::read_dir(&dir).is_ok_and(|mut inside| inside.next().is_some()) {
        return Err(Failure::usage(format!("{} is there already, with files in it", dir.display()))
            .next("give another folder: --dir FOLDER"));
    }
    fs::create_dir_all(&dir).map_err(failed)?;
    let sdk = sdk(args.sdk_path.as_deref(), &dir)?;
    let camel: String = name.split('_').map(capital).collect();
    for (path, text) in args.lang.files() {
        let text = text.replace(NAME, name).replace("MyChannel", &camel);
        let text = text.replace("MY_CHANNEL", &name.to_uppercase()).replace(SDK, &sdk);
        let file = dir.join(path);
        file.parent().map_or(Ok(()), fs::create_dir_all).map_err(failed)?;
        fs::write(&file, text).map_err(failed)?;
    }
    let (build, made) = args.lang.build(name);
    out.show(&json!({ "name": name, "folder": dir, "build": build, "file": made }), |out| {
        out.line(format!("{} is a channel. Next:", dir.display()));
        out.line(format!("  cd {}", dir.display()));
        out.line(format!("  {build}        # makes {made}"));
        out.line(format!("  campanile plugin check {made}"));
    });
    Ok(())
}

fn check_name(name: &str) -> Outcome {
    let shape = name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if !shape {
        return Err(Failure::usage(format!("{name:?} can't be a channel's name"))
            .why("a name begins with a lower-case letter and has at most 64 of them, digits and underscores"));
    }
    if TAKEN.contains(&name) {
        return Err(
            Failure::usage(format!("{name:?} can't be a channel's name")).why("it means something else already")
        );
    }
    Ok(())
}

/// `my` → `My`.
fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// What stands in `Cargo.toml` for the SDK.
fn sdk(given: Option<&Path>, dir: &Path) -> Outcome<String> {
    let is_sdk = |folder: &Path| {
        fs::read_to_string(folder.join("Cargo.toml")).is_ok_and(|text| text.contains("name = \"campanile-plugin\""))
    };
    let path = |folder: &Path| -> Outcome<String> {
        let folder = fs::canonicalize(folder).map_err(|e| Failure::failed("the SDK's folder can't be found").why(e))?;
        // A JSON string is a TOML string, too.
        Ok(format!("path = {}", json!(folder.to_string_lossy())))
    };
    if let Some(given) = given {
        if !is_sdk(given) {
            return Err(Failure::usage(format!("{} is not the SDK", given.display()))
                .next("give the folder plugins/sdk of a checkout: --sdk-path …/plugins/sdk"));
        }
        return path(given);
    }
    let around = fs::canonicalize(dir).ok();
    let found = around.iter().flat_map(|d| d.ancestors()).map(|d| d.join("plugins/sdk")).find(|d| is_sdk(d));
    match found {
        Some(found) => path(&found),
        None => Ok("version = \"0.1\"".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(words: &[&str]) -> (tempfile::TempDir, PathBuf) {
        use clap::Parser;
        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            args: Args,
        }
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("made");
        let words = ["new"].iter().chain(words).map(|w| (*w).to_owned());
        let line = Line::parse_from(words.chain(["--dir".to_owned(), dir.display().to_string()]));
        run(&line.args, Output::new(false, true)).unwrap();
        (folder, dir)
    }

    #[test]
    fn nothing_of_the_template_is_left() {
        for language in Language::value_variants() {
            let value = language.to_possible_value().unwrap();
            let (_folder, dir) = written(&["ping_pong", "--lang", value.get_name()]);
            let mut folders = vec![dir];
            let mut files = 0;
            while let Some(folder) = folders.pop() {
                for entry in fs::read_dir(folder).unwrap() {
                    let path = entry.unwrap().path();
                    if path.is_dir() {
                        folders.push(path);
                        continue;
                    }
                    files += 1;
                    let text = fs::read_to_string(&path).unwrap();
                    for left in [NAME, "MyChannel", "MY_CHANNEL", "../../sdk"] {
                        assert!(!text.contains(left), "{left} is in {}", path.display());
                    }
                }
            }
            assert_eq!(files, language.files().len());
        }
    }

    #[test]
    fn the_sdk_comes_from_where_it_is() {
        let sdk = concat!(env!("CARGO_MANIFEST_DIR"), "/../plugins/sdk");
        let line = |words: &[&str]| {
            let (_folder, dir) = written(words);
            fs::read_to_string(dir.join("Cargo.toml")).unwrap()
        };
        let there = fs::canonicalize(sdk).unwrap();
        assert!(line(&["x"]).contains("campanile-plugin = { version = \"0.1\", default-features = false }"));
        assert!(line(&["x", "--sdk-path", sdk]).contains(&format!("{{ path = \"{}\", default", there.display())));
        assert!(super::sdk(None, Path::new(sdk)).unwrap().starts_with("path = "), "in a checkout it is found");
        assert!(super::sdk(Some(Path::new("/")), Path::new("/")).is_err());
    }

    #[test]
    fn names_that_can_be_nothing_else() {
        for good in ["a", "sms2", "my_channel"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "2x", "My", "a-b", "a b", "../x", "ü", "type", "email", &"x".repeat(65)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
