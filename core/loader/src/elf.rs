//! The manifest's section in a library's bytes, read without trusting one of them.
//!
//! Just enough of ELF: header, section headers, names. By hand, because every number here is hostile and the few lines
//! that read them are easier to check than a parser of all of it.

use crate::{Refusal, Step};
use campanile_plugin_abi::SECTION;

/// Longest manifest.
const TEXT_MAX: usize = 4096;
/// More sections than any compiler makes.
pub(crate) const SECTIONS_MAX: usize = 16 * 1024;

/// Little-endian numbers at checked places.
#[derive(Clone, Copy)]
pub(crate) struct Bytes<'a>(pub &'a [u8]);

impl<'a> Bytes<'a> {
    pub fn slice(self, at: u64, len: u64) -> Option<&'a [u8]> {
        let (at, len) = (usize::try_from(at).ok()?, usize::try_from(len).ok()?);
        self.0.get(at..at.checked_add(len)?)
    }
    pub fn u16(self, at: u64) -> Option<u16> {
        self.slice(at, 2)?.try_into().ok().map(u16::from_le_bytes)
    }
    pub fn u32(self, at: u64) -> Option<u32> {
        self.slice(at, 4)?.try_into().ok().map(u32::from_le_bytes)
    }
    pub fn u64(self, at: u64) -> Option<u64> {
        self.slice(at, 8)?.try_into().ok().map(u64::from_le_bytes)
    }
}

/// Machines by their number in ELF.
const MACHINES: [(u16, &str); 5] = [(3, "x86"), (40, "arm"), (62, "x86_64"), (183, "aarch64"), (243, "riscv64")];

/// The text of the manifest.
pub fn manifest(file: &[u8]) -> Result<&str, Refusal> {
    let bytes = Bytes(file);
    check_kind(bytes)?;
    let section = section(bytes)?;
    // What a toolchain appends is padding, or, from Go, the same once more.
    let mut texts = section.split(|b| *b == 0).filter(|t| !t.is_empty());
    let Some(text) = texts.next() else {
        return Step::Manifest.refuses(format!("its section {SECTION} is empty"));
    };
    if texts.any(|other| other != text) {
        return Step::Manifest.refuses(format!("its section {SECTION} holds two different manifests"));
    }
    if text.len() > TEXT_MAX {
        return Step::Manifest.refuses(format!("its manifest has {} bytes; at most {TEXT_MAX}", text.len()));
    }
    std::str::from_utf8(text).map_err(|_| Refusal::new(Step::Manifest, "its manifest is not UTF-8"))
}

fn truncated<T>() -> Result<T, Refusal> {
    Step::Manifest.refuses("it is cut off: it points past its own end; copy the whole file")
}

/// A shared library for this machine.
fn check_kind(bytes: Bytes<'_>) -> Result<(), Refusal> {
    let refuse = |why: &str| Step::Manifest.refuses(why);
    match bytes.0 {
        [] => return refuse("it is empty"),
        [0x7f, b'E', b'L', b'F', ..] => {}
        [b'M', b'Z', ..] => return refuse("it is a Windows library (.dll), not one for Linux"),
        [0xcf | 0xce, 0xfa, 0xed, 0xfe, ..] | [0xca, 0xfe, 0xba, 0xbe, ..] => {
            return refuse("it is a macOS library (.dylib), not one for Linux");
        }
        [0, b'a', b's', b'm', ..] => return refuse("it is a WebAssembly module, not a library"),
        _ => return refuse("it is not a library: it does not begin as an ELF file does"),
    }
    let (Some(&[class, order]), Some(kind), Some(machine)) = (bytes.slice(4, 2), bytes.u16(16), bytes.u16(18)) else {
        return truncated();
    };
    let wrong = |what: String| {
        Step::Target.refuses(format!("it is built for {what}; this host is {}", campanile_plugin_abi::TARGET))
    };
    if class != 2 {
        return wrong("a 32-bit machine".to_owned());
    }
    if order != 1 {
        return wrong("a big-endian machine".to_owned());
    }
    if kind != 3 {
        return refuse("it is not a shared library: link it with -shared, or as a cdylib");
    }
    let ours = MACHINES.iter().find(|(_, name)| campanile_plugin_abi::TARGET.starts_with(&format!("{name}-")));
    match ours {
        Some((number, _)) if *number != machine => {
            let name = MACHINES.iter().find(|(n, _)| *n == machine).map(|(_, name)| (*name).to_owned());
            wrong(name.unwrap_or_else(|| format!("machine {machine}")))
        }
        _ => Ok(()),
    }
}

/// Place and size of a section header of 64-bit ELF.
pub(crate) const HEADER: u64 = 64;

/// The one section of our name.
fn section(bytes: Bytes<'_>) -> Result<&[u8], Refusal> {
    let (Some(table), Some(size), Some(count), Some(names)) =
        (bytes.u64(40), bytes.u16(58), bytes.u16(60), bytes.u16(62))
    else {
        return truncated();
    };
    let none = || {
        Step::Manifest
            .refuses(format!("it has no section {SECTION}: it is not a plugin, or export! or CAMP_PLUGIN is missing"))
    };
    if table == 0 || count == 0 {
        return none();
    }
    if u64::from(size) != HEADER || usize::from(count) > SECTIONS_MAX {
        return Step::Manifest.refuses("its table of sections has a form that no toolchain writes");
    }
    let header = |n: u16| table.checked_add(u64::from(n) * HEADER).and_then(|at| bytes.slice(at, HEADER)).map(Bytes);
    let contents = |h: Bytes<'_>| bytes.slice(h.u64(24)?, h.u64(32)?);
    let Some(names) = header(names).and_then(contents) else { return truncated() };
    let mut found = None;
    for n in 0..count {
        let Some(header) = header(n) else { return truncated() };
        let name = header.u32(0).and_then(|at| names.get(at as usize..)).unwrap_or_default();
        if name.split(|b| *b == 0).next() != Some(SECTION.as_bytes()) {
            continue;
        }
        // Without contents in the file there is nothing to read.
        let Some(content) = contents(header).filter(|_| header.u32(4) != Some(8)) else { return truncated() };
        if found.replace(content).is_some() {
            return Step::Manifest.refuses(format!("it has two sections {SECTION}; a plugin has one manifest"));
        }
    }
    found.map_or_else(none, Ok)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A library with nothing but the sections given.
    pub(crate) fn library(sections: &[(&str, &[u8])]) -> Vec<u8> {
        let mut names = vec![0];
        let mut file = vec![0; 64];
        let mut headers = vec![0; 64];
        for (name, content) in sections {
            let mut header = [0; 64];
            header[..4].copy_from_slice(&u32::try_from(names.len()).unwrap().to_le_bytes());
            header[4] = 1;
            header[24..32].copy_from_slice(&(file.len() as u64).to_le_bytes());
            header[32..40].copy_from_slice(&(content.len() as u64).to_le_bytes());
            headers.extend(header);
            names.extend(name.bytes().chain([0]));
            file.extend_from_slice(content);
        }
        let mut header = [0; 64];
        header[24..32].copy_from_slice(&(file.len() as u64).to_le_bytes());
        header[32..40].copy_from_slice(&(names.len() as u64).to_le_bytes());
        headers.extend(header);
        file.extend(names);
        let table = file.len() as u64;
        file.extend(headers);
        let ours = |name: &str| campanile_plugin_abi::TARGET.starts_with(&format!("{name}-"));
        let machine = MACHINES.iter().find(|(_, n)| ours(n)).unwrap().0;
        file[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1]);
        file[16..18].copy_from_slice(&3u16.to_le_bytes());
        file[18..20].copy_from_slice(&machine.to_le_bytes());
        file[40..48].copy_from_slice(&table.to_le_bytes());
        file[58..60].copy_from_slice(&64u16.to_le_bytes());
        let count = u16::try_from(sections.len() + 2).unwrap();
        file[60..62].copy_from_slice(&count.to_le_bytes());
        file[62..64].copy_from_slice(&(count - 1).to_le_bytes());
        file
    }

    fn refused(file: &[u8]) -> String {
        manifest(file).unwrap_err().to_string()
    }

    #[test]
    fn the_text_is_found_to_its_first_nul() {
        for content in [&b"{}\0"[..], b"{}\0\0\0\0", b"{}\0{}\0", b"{}"] {
            assert_eq!(manifest(&library(&[(".text", b"x"), (SECTION, content)])).unwrap(), "{}");
        }
    }

    #[test]
    fn each_fault_has_its_own_sentence() {
        let good = library(&[(SECTION, b"{}\0")]);
        let mut said = vec![
            refused(b""),
            refused(b"#!/bin/sh\n"),
            refused(b"MZ......"),
            refused(&[0xcf, 0xfa, 0xed, 0xfe]),
            refused(b"\0asm\x01"),
            refused(&good[..good.len() - 1]),
            refused(&library(&[(".text", b"x")])),
            refused(&library(&[(SECTION, b"{}\0"), (SECTION, b"{}\0")])),
            refused(&library(&[(SECTION, b"{}\0[]\0")])),
            refused(&library(&[(SECTION, b"\0\0")])),
            refused(&library(&[(SECTION, b"\xff\0")])),
            refused(&library(&[(SECTION, &[b'x'; TEXT_MAX + 1])])),
        ];
        let mut with = |at: usize, byte: u8| {
            let mut file = good.clone();
            file[at] = byte;
            said.push(refused(&file));
        };
        with(4, 1);
        with(5, 2);
        with(16, 2);
        with(18, 8);
        with(58, 63);
        for (n, text) in said.iter().enumerate() {
            assert!(!said[..n].contains(text), "said twice: {text}");
        }
    }

    #[test]
    fn no_cut_and_no_flipped_byte_gets_further_than_a_refusal() {
        let good = library(&[(".text", b"x"), (SECTION, b"{\"a\":1}\0")]);
        for cut in 0..good.len() {
            assert!(manifest(&good[..cut]).is_err(), "cut at {cut}");
        }
        for at in 0..good.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut file = good.clone();
                file[at] = value;
                let _ = manifest(&file);
            }
        }
    }
}
