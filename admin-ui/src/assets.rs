//! Styles and scripts, embedded. A name holds a hash of the content, so that a browser may keep it for ever.

/// One embedded file.
#[derive(Debug)]
pub struct Asset {
    pub mime: &'static str,
    pub body: &'static str,
    /// Of the body; stands in the name and in the ETag.
    pub hash: u64,
    stem: &'static str,
    ending: &'static str,
}

macro_rules! assets {
    ($($name:ident: $stem:literal $ending:literal $mime:literal;)+) => {
        $(pub const $name: Asset = {
            let body = include_str!(concat!("../assets/", $stem, ".", $ending));
            Asset { mime: $mime, body, hash: fnv(body.as_bytes()), stem: $stem, ending: $ending }
        };)+
        static ALL: &[Asset] = &[$($name),+];
    };
}

assets! {
    STYLE: "app" "css" "text/css; charset=utf-8";
    DEMO: "demo" "js" "text/javascript; charset=utf-8";
    MAIL: "mail" "js" "text/javascript; charset=utf-8";
    ICON: "bell" "svg" "image/svg+xml";
}

impl Asset {
    /// `app-0123456789abcdef.css`.
    pub fn name(&self) -> String {
        format!("{}-{:016x}.{}", self.stem, self.hash, self.ending)
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

    #[test]
    fn a_name_leads_back_to_its_file_and_an_old_one_nowhere() {
        for asset in ALL {
            assert_eq!(find(&asset.name()).unwrap().hash, asset.hash);
        }
        assert!(find("app-0000000000000000.css").is_none());
    }

    #[test]
    fn scripts_write_text_only() {
        for asset in ALL.iter().filter(|a| a.ending == "js") {
            for word in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
                assert!(!asset.body.contains(word), "{} uses {word}", asset.stem);
            }
        }
    }
}
