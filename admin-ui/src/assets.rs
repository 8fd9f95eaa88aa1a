//! Styles and scripts, embedded and compressed. A name holds a hash of the content, so that a browser may keep it for ever.

/// One embedded file.
#[derive(Debug)]
pub struct Asset {
    pub mime: &'static str,
    pub body: &'static [u8],
    /// Smaller forms, smallest first: the word of `Accept-Encoding`, and the bytes.
    pub smaller: &'static [(&'static str, &'static [u8])],
    /// Of the body; stands in the name and in the ETag.
    pub hash: u64,
    stem: &'static str,
    ending: &'static str,
}

/// What is compressed by its own format stays as it is; ours is compressed by `build.rs`; vendored text also lies here in brotli.
macro_rules! smaller {
    (plain $path:literal $file:literal) => {
        &[]
    };
    (ours $path:literal $file:literal) => {
        &[("gzip", include_bytes!(concat!(env!("OUT_DIR"), "/", $file, ".gz")))]
    };
    (vendored $path:literal $file:literal) => {
        &[
            ("br", include_bytes!(concat!("../assets/", $path, $file, ".br"))),
            ("gzip", include_bytes!(concat!(env!("OUT_DIR"), "/", $file, ".gz"))),
        ]
    };
}

macro_rules! assets {
    ($($name:ident: $kind:ident $path:literal $file:literal $stem:literal $ending:literal $mime:literal;)+) => {
        $(pub const $name: Asset = {
            let body = include_bytes!(concat!("../assets/", $path, $file));
            Asset { mime: $mime, body, smaller: smaller!($kind $path $file), hash: fnv(body), stem: $stem, ending: $ending }
        };)+
        static ALL: &[Asset] = &[$($name),+];
    };
}

assets! {
    STYLE: ours "" "app.css" "app" "css" "text/css; charset=utf-8";
    PAGES: ours "" "pages.css" "pages" "css" "text/css; charset=utf-8";
    APP: ours "" "app.js" "app" "js" "text/javascript; charset=utf-8";
    FIND: ours "" "find.js" "find" "js" "text/javascript; charset=utf-8";
    DEMO: ours "" "demo.js" "demo" "js" "text/javascript; charset=utf-8";
    MAIL: ours "" "mail.js" "mail" "js" "text/javascript; charset=utf-8";
    HTMX: vendored "vendor/" "htmx-4.0.1.min.js" "htmx" "js" "text/javascript; charset=utf-8";
    HX_SSE: vendored "vendor/" "hx-sse-4.0.1.min.js" "hx-sse" "js" "text/javascript; charset=utf-8";
    FONT: plain "vendor/" "inter-5.3.0-latin-wght.woff2" "inter" "woff2" "font/woff2";
    ICON: ours "" "bell.svg" "bell" "svg" "image/svg+xml";
}

impl Asset {
    /// `app-0123456789abcdef.css`.
    pub fn name(&self) -> String {
        format!("{}-{:016x}.{}", self.stem, self.hash, self.ending)
    }
    /// The smallest form among those that a browser takes by its `Accept-Encoding`: the word and the bytes. `None`: as it is.
    pub fn form(&self, accepted: &str) -> Option<(&'static str, &'static [u8])> {
        self.smaller.iter().copied().find(|(word, _)| takes(accepted, word))
    }
    /// Where pages link to.
    pub fn url(&self) -> String {
        format!("/assets/{}", self.name())
    }
}

/// By the name in its URL; a name with an old hash is gone.
pub fn find(name: &str) -> Option<&'static Asset> {
    ALL.iter().find(|a| a.name() == name)
}

/// Whether the header names this coding and does not refuse it.
fn takes(accepted: &str, word: &str) -> bool {
    let named = |part: &str, name: &str| {
        let mut pieces = part.split(';').map(str::trim);
        let same = pieces.next().is_some_and(|coding| coding.eq_ignore_ascii_case(name));
        let refused =
            pieces.any(|p| p.strip_prefix("q=").is_some_and(|q| q.trim().parse::<f32>().is_ok_and(|q| q == 0.0)));
        same.then_some(!refused)
    };
    let find = |name: &str| accepted.split(',').find_map(|part| named(part, name));
    find(word).or_else(|| find("*")).unwrap_or(false)
}

/// FNV-1a: tells versions of our own files apart; no secret hangs on it.
const fn fnv(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut i = 0;
    while i < bytes.len() {
        hash = (hash ^ bytes[i] as u64).wrapping_mul(0x0100_0000_01b3);
        i += 1;
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    #[test]
    fn vendored_files_are_those_that_were_checked() {
        let list = include_str!("../assets/vendor/vendor.toml");
        let named: Vec<_> = list.lines().filter_map(|l| l.strip_prefix("path = \"")?.strip_suffix('"')).collect();
        let sums: Vec<_> = list.lines().filter_map(|l| l.strip_prefix("sha256 = \"")?.strip_suffix('"')).collect();
        assert_eq!(named.len(), sums.len());
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/vendor");
        for (name, sum) in named.iter().zip(sums) {
            let body = std::fs::read(folder.join(name)).unwrap();
            let found = Sha256::digest(body).iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().concat();
            assert_eq!(found, sum, "{name} is not the file in vendor.toml");
        }
        for entry in std::fs::read_dir(folder).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let note = name.ends_with("-LICENSE") || name == "vendor.toml";
            assert!(note || named.contains(&name.as_str()), "{name} is not in vendor.toml");
        }
    }

    #[test]
    fn compressed_forms_are_smaller_and_hold_the_same() {
        use std::io::Read as _;
        for asset in ALL.iter().filter(|a| a.ending != "woff2") {
            let (word, bytes) = asset.form("gzip").unwrap();
            assert_eq!(word, "gzip");
            let mut body = Vec::new();
            flate2::read::GzDecoder::new(bytes).read_to_end(&mut body).unwrap();
            assert!(body == asset.body, "{} unpacks to something else", asset.stem);
            for (word, bytes) in asset.smaller {
                assert!(bytes.len() < asset.body.len(), "{} as {word}", asset.stem);
            }
        }
    }

    #[test]
    fn a_browser_gets_the_smallest_form_it_takes() {
        let word = |accepted: &str| HTMX.form(accepted).map(|(word, _)| word);
        for (accepted, expected) in [
            ("gzip, deflate, br, zstd", Some("br")),
            ("gzip", Some("gzip")),
            ("GZIP;q=0.5", Some("gzip")),
            ("br;q=0, gzip", Some("gzip")),
            ("br; q=0.0, gzip;q=0", None),
            ("*", Some("br")),
            ("*, br;q=0", Some("gzip")),
            ("identity", None),
            ("", None),
            ("brotli", None),
        ] {
            assert_eq!(word(accepted), expected, "{accepted:?}");
        }
        assert_eq!(STYLE.form("br"), None, "ours lies in gzip only");
        assert_eq!(FONT.form("br, gzip"), None);
    }

    #[test]
    fn the_style_sheet_names_the_font_as_it_is_served() {
        let sheet = std::str::from_utf8(STYLE.body).unwrap();
        assert!(sheet.contains(&FONT.name()), "write {} into app.css", FONT.name());
    }

    #[test]
    fn a_name_leads_back_to_its_file_and_an_old_one_nowhere() {
        for asset in ALL {
            assert_eq!(find(&asset.name()).unwrap().hash, asset.hash);
        }
        assert!(find("app-0000000000000000.css").is_none());
    }

    #[test]
    fn scripts_write_text_only() {
        for asset in [APP, FIND, DEMO, MAIL] {
            let body = std::str::from_utf8(asset.body).unwrap();
            for word in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
                assert!(!body.contains(word), "{} uses {word}", asset.stem);
            }
        }
    }
}
