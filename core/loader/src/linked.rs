//! How a library was linked: the names it offers, the libraries and the libc it needs, what it carries for debuggers.
//!
//! Read from its bytes, as its manifest is, without trusting one of them; what can't be read is not there. For `plugin check`:
//! no load depends on it, and the dynamic linker has the last word.

use crate::elf::{Bytes, HEADER, SECTIONS_MAX};

/// More of anything than a plugin has.
const COUNT_MAX: u64 = 64 * 1024;
const SYMTAB_DYNAMIC: u32 = 11;
const DYNAMIC: u32 = 6;
const VERSIONS_NEEDED: u32 = 0x6fff_fffe;
/// What some linkers export of their own accord.
const LINKERS: [&str; 6] = ["_init", "_fini", "_edata", "_end", "__bss_start", "_DYNAMIC"];

/// Of one library.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Linked {
    /// Names that others can use.
    pub exports: Vec<String>,
    /// Libraries that must be there.
    pub needed: Vec<String>,
    /// The oldest glibc that has everything it uses: `(2, 34)`.
    pub glibc: Option<(u32, u32)>,
    /// Bytes for debuggers.
    pub debug_info: u64,
}

struct File<'a> {
    bytes: Bytes<'a>,
    table: u64,
    count: u16,
    names: &'a [u8],
}

impl Linked {
    /// Of a file that the manifest was found in.
    pub fn of(file: &[u8]) -> Self {
        let mut linked = Self::default();
        let Some(file) = File::open(Bytes(file)) else { return linked };
        for n in 0..file.count {
            let Some(header) = file.header(n) else { continue };
            let _ = match header.u32(4) {
                Some(SYMTAB_DYNAMIC) => file.exports(header, &mut linked),
                Some(DYNAMIC) => file.needed(header, &mut linked),
                Some(VERSIONS_NEEDED) => file.versions(header, &mut linked),
                _ => file.debug(header, &mut linked),
            };
        }
        linked.exports.sort();
        linked
    }
}

impl<'a> File<'a> {
    fn open(bytes: Bytes<'a>) -> Option<Self> {
        let (table, size, count) = (bytes.u64(40)?, bytes.u16(58)?, bytes.u16(60)?);
        if u64::from(size) != HEADER || usize::from(count) > SECTIONS_MAX {
            return None;
        }
        let mut file = Self { bytes, table, count, names: &[] };
        file.names = file.contents(file.header(bytes.u16(62)?)?)?.0;
        Some(file)
    }

    fn header(&self, n: u16) -> Option<Bytes<'a>> {
        let at = self.table.checked_add(u64::from(n) * HEADER)?;
        self.bytes.slice(at, HEADER).map(Bytes)
    }

    fn contents(&self, header: Bytes<'a>) -> Option<Bytes<'a>> {
        self.bytes.slice(header.u64(24)?, header.u64(32)?).map(Bytes)
    }

    /// The texts that a section's numbers point into.
    fn texts(&self, header: Bytes<'a>) -> Option<&'a [u8]> {
        let linked = self.header(u16::try_from(header.u32(40)?).ok()?)?;
        self.contents(linked).map(|texts| texts.0)
    }

    fn exports(&self, header: Bytes<'a>, to: &mut Linked) -> Option<()> {
        const SYMBOL: u64 = 24;
        let (symbols, texts) = (self.contents(header)?, self.texts(header)?);
        for n in 0..(symbols.0.len() as u64 / SYMBOL).min(COUNT_MAX) {
            let symbol = Bytes(symbols.slice(n * SYMBOL, SYMBOL)?);
            let (info, other) = (*symbol.0.get(4)?, *symbol.0.get(5)?);
            let offered = matches!(info >> 4, 1 | 2) && matches!(other & 3, 0 | 3) && symbol.u16(6)? != 0;
            let name = text(texts, symbol.u32(0)?);
            if offered && !name.is_empty() && !LINKERS.contains(&name.as_str()) {
                to.exports.push(name);
            }
        }
        Some(())
    }

    fn needed(&self, header: Bytes<'a>, to: &mut Linked) -> Option<()> {
        const ENTRY: u64 = 16;
        const NEEDED: u64 = 1;
        let (entries, texts) = (self.contents(header)?, self.texts(header)?);
        for n in 0..(entries.0.len() as u64 / ENTRY).min(COUNT_MAX) {
            if entries.u64(n * ENTRY)? == NEEDED {
                to.needed.push(text(texts, u32::try_from(entries.u64(n * ENTRY + 8)?).ok()?));
            }
        }
        Some(())
    }

    /// A list of libraries, each with a list of versions.
    fn versions(&self, header: Bytes<'a>, to: &mut Linked) -> Option<()> {
        let (list, texts) = (self.contents(header)?, self.texts(header)?);
        let (mut at, mut left) = (0, COUNT_MAX);
        loop {
            left = left.checked_sub(1)?;
            let (mut one, next) = (at + u64::from(list.u32(at + 8)?), list.u32(at + 12)?);
            for _ in 0..list.u16(at + 2)? {
                left = left.checked_sub(1)?;
                let name = text(texts, list.u32(one + 8)?);
                let version = name.strip_prefix("GLIBC_").and_then(|v| {
                    let mut parts = v.split('.').map(str::parse::<u32>);
                    Some((parts.next()?.ok()?, parts.next()?.ok()?))
                });
                to.glibc = to.glibc.max(version);
                one += u64::from(list.u32(one + 12)?);
            }
            if next == 0 {
                return Some(());
            }
            at += u64::from(next);
        }
    }

    fn debug(&self, header: Bytes<'a>, to: &mut Linked) -> Option<()> {
        if text(self.names, header.u32(0)?).starts_with(".debug_") {
            to.debug_info = to.debug_info.saturating_add(header.u64(32)?);
        }
        Some(())
    }
}

/// To its NUL, made fit to be shown.
fn text(texts: &[u8], at: u32) -> String {
    let rest = texts.get(at as usize..).unwrap_or_default();
    let text = rest.split(|b| *b == 0).next().unwrap_or_default();
    crate::clamp::line(&String::from_utf8_lossy(&text[..text.len().min(256)]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::tests::library;
    use std::fs;

    #[test]
    fn what_this_very_program_needs() {
        let linked = Linked::of(&fs::read("/proc/self/exe").unwrap());
        assert!(linked.needed.iter().any(|name| name.starts_with("libc.so")), "{linked:?}");
        assert!(linked.glibc.is_some_and(|version| version >= (2, 14)), "{linked:?}");
    }

    #[test]
    fn no_flipped_byte_and_no_cut_stops_it() {
        let whole = fs::read("/proc/self/exe").unwrap();
        // The tables, not the megabytes of code between them.
        let small = library(&[(".debug_info", b"xx"), (".dynsym", &[1; 48]), (".dynamic", &[1; 32])]);
        assert_eq!(Linked::of(&small).debug_info, 2);
        for at in 0..small.len() {
            for value in [0, 1, 6, 11, 0x7f, 0xff] {
                let mut file = small.clone();
                file[at] = value;
                let _ = Linked::of(&file);
            }
            let _ = Linked::of(&small[..at]);
        }
        for cut in [0, 63, 64, whole.len() / 2] {
            assert_eq!(Linked::of(&whole[..cut]), Linked::default(), "cut at {cut}");
        }
    }
}
