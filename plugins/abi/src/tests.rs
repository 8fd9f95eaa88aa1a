//! The shortest legal structs, longer ones than we know, hostile ones, and the header's layout against ours.

#![allow(clippy::format_push_string)] // Text of a C program; nobody counts its allocations.

use super::*;
use core::{ffi::c_void, mem::size_of};
use std::{borrow::ToOwned, format, path::Path, process::Command, string::String, vec, vec::Vec};

unsafe extern "C" fn describe(_: *const Sink) {}
unsafe extern "C" fn start(_: *const Host, _: Str, _: u64, _: *mut *mut c_void) -> i32 {
    0
}
unsafe extern "C" fn deliver(_: *mut c_void, _: *const *const Delivery, _: usize) {}
unsafe extern "C" fn destroy(_: *mut c_void) {}
unsafe extern "C" fn health(_: *mut c_void, _: u64) {}
unsafe extern "C" fn complete(_: *mut c_void, _: u64, _: *const Outcome) {}

fn table() -> Plugin {
    Plugin::new(describe, start, deliver, destroy).health(Some(health))
}

/// The first `size` bytes of a struct and nothing after them, as an older side would send it. Its `size` says so.
struct Cut {
    words: Vec<u64>,
}
impl Cut {
    fn of<T: Copy>(whole: &T, size: usize) -> Self {
        let mut words = vec![0u64; (size + 7) / 8];
        // SAFETY: `size` is at most the struct's, and `words` has room for it. Padding is none: see `layouts`.
        unsafe {
            core::ptr::copy_nonoverlapping(
                (whole as *const T).cast::<u8>(),
                words.as_mut_ptr().cast::<u8>(),
                size.min(size_of::<T>()),
            );
            words.as_mut_ptr().cast::<u32>().write(size as u32);
        }
        Self { words }
    }
    fn view<T: Growable>(&self) -> Result<View<'_, T>, BadStruct> {
        // SAFETY: as many bytes as `size` says are there.
        unsafe { View::new(self.words.as_ptr().cast()) }
    }
}

#[test]
fn the_shortest_legal_table_is_used_and_nothing_past_its_end() {
    // 16 bytes of numbers, four functions; `health` is set behind its end and must not be seen.
    let least = 16 + 4 * size_of::<usize>();
    let cut = Cut::of(&table(), least);
    let view = cut.view::<Plugin>().unwrap();
    assert_eq!(view.check(), Ok(()));
    assert!(view.describe().is_some() && view.destroy().is_some());
    assert!(view.validate().is_none() && view.cancel().is_none() && view.health().is_none() && view.stop().is_none());
    assert!(Cut::of(&table(), size_of::<Plugin>()).view::<Plugin>().unwrap().health().is_some());
    let short = Cut::of(&table(), least - 1);
    let bad = BadStruct::TooShort { size: least as u32 - 1, least: least as u32 };
    assert_eq!(short.view::<Plugin>().err(), Some(bad));
}

#[test]
fn what_an_older_side_left_out_has_its_default() {
    let outcome = Outcome::new(status::RETRY).retry_after_ms(7).code(Str::new("code"));
    let cut = Cut::of(&outcome, 8);
    let view = cut.view::<Outcome>().unwrap();
    assert_eq!((view.status(), view.retry_after_ms(), view.code()), (status::RETRY, UNSET, &b""[..]));
    // A field that is covered in part isn't there.
    let cut = Cut::of(&outcome, 12);
    assert_eq!(cut.view::<Outcome>().unwrap().retry_after_ms(), UNSET);
    let cut = Cut::of(&outcome, 16);
    assert_eq!(cut.view::<Outcome>().unwrap().retry_after_ms(), 7);

    let delivery = Delivery::new(9, Str::new("id")).timeout_ms(5).recipient(Str::new("bob"));
    let cut = Cut::of(&delivery, 16);
    let view = cut.view::<Delivery>().unwrap();
    assert_eq!((view.token(), view.timeout_ms(), view.recipient()), (9, UNSET, &b""[..]));

    let host = Host::new(core::ptr::null_mut(), complete);
    let cut = Cut::of(&host, 16 + size_of::<usize>());
    let view = cut.view::<Host>().unwrap();
    assert!(view.complete().is_some() && view.log().is_none() && view.http().is_none() && view.timer().is_none());
}

#[test]
fn a_newer_side_may_say_more() {
    let cut = Cut::of(&table(), size_of::<Plugin>() + 64);
    let view = cut.view::<Plugin>().unwrap();
    assert_eq!((view.check(), view.size()), (Ok(()), size_of::<Plugin>() + 64));
    assert!(view.health().is_some());
}

#[test]
fn unknown_flags_are_ignored_or_refused_by_their_place() {
    let check = |table: &Plugin| unsafe { View::table(table) }.map(|_| ());
    for known in [flags::BLOCKING, 1 << 3, 1 << 15] {
        assert_eq!(check(&table().flags(known)), Ok(()));
    }
    for unknown in [1 << 16, 1 << 31] {
        assert_eq!(check(&table().flags(unknown | flags::BLOCKING)), Err(Refusal::UnknownFlags(unknown)));
    }
}

#[test]
fn a_table_that_is_none_is_refused_with_a_reason() {
    let check = |table: *const Plugin| unsafe { View::table(table) }.map(|_| ()).unwrap_err();
    assert_eq!(check(core::ptr::null()), Refusal::Struct(BadStruct::Null));
    let whole = table();
    let odd = core::ptr::addr_of!(whole).cast::<u8>().wrapping_add(1).cast();
    assert_eq!(check(odd), Refusal::Struct(BadStruct::Misaligned));
    for (table, name) in [
        (table().describe(None), "describe"),
        (table().start(None), "start"),
        (table().deliver(None), "deliver"),
        (table().destroy(None), "destroy"),
    ] {
        assert_eq!(check(&table), Refusal::Missing(name));
        assert!(format!("{}", check(&table)).contains(name));
    }
}

#[test]
fn texts_that_can_not_be_are_empty() {
    for text in [Str::EMPTY, Str::new("")] {
        assert_eq!(unsafe { text.bytes() }, b"");
    }
    // A length without text, and a length longer than memory, as a broken C side might send them.
    let outcome = Outcome::new(0).code(Str::new("ok"));
    let mut raw = Cut::of(&outcome, size_of::<Outcome>());
    raw.words[2] = 0;
    assert_eq!(raw.view::<Outcome>().unwrap().code(), b"");
    let mut raw = Cut::of(&outcome, size_of::<Outcome>());
    raw.words[3] = u64::MAX;
    assert_eq!(raw.view::<Outcome>().unwrap().code(), b"");
}

#[test]
fn a_manifest_is_json_with_a_nul_and_names_the_machine() {
    const LEN: usize = manifest_len("sms", "1.2.0");
    let bytes: [u8; LEN] = manifest_bytes("sms", "1.2.0");
    let want = format!(
        "{{\"campanile_abi\":1,\"min_minor\":0,\"name\":\"sms\",\"version\":\"1.2.0\",\"target\":\"{TARGET}\"}}\0"
    );
    assert_eq!(core::str::from_utf8(&bytes), Ok(want.as_str()));
    for (name, version) in [("", "1"), ("Sms", "1"), ("1sms", "1"), ("s\"", "1"), ("sms", ""), ("sms", "1 2")] {
        assert!(std::panic::catch_unwind(|| manifest_bytes::<LEN>(name, version)).is_err(), "{:?}", (name, version));
    }
}

/// Struct, its size, and the offsets of its fields.
type Layout = (&'static str, usize, Vec<(&'static str, usize)>);

fn layouts() -> Vec<Layout> {
    macro_rules! layouts {
        ($( $c:literal $rust:ident, )*) => { vec![$( ($c, size_of::<$rust>(), $rust::layout()), )*] };
    }
    layouts! {
        "camp_outcome" Outcome,
        "camp_delivery" Delivery,
        "camp_log" Log,
        "camp_metric" Metric,
        "camp_http_request" HttpRequest,
        "camp_http_response" HttpResponse,
        "camp_host" Host,
        "camp_plugin" Plugin,
    }
}

/// A C program that prints what its compiler makes of the header.
fn probe() -> String {
    let mut c = String::from(
        "#include \"campanile_plugin.h\"\n#include <stdio.h>\nCAMP_PLUGIN(\"probe\", \"1.0\");\n\
         const camp_plugin *campanile_plugin_v1(void) { return NULL; }\n\
         int main(void) {\n  printf(\"%s\\n\", campanile_plugin_manifest);\n",
    );
    for name in ["camp_str", "camp_sink"] {
        c += &format!("  printf(\"{name} %zu\\n\", sizeof({name}));\n");
    }
    for (name, _, fields) in layouts() {
        c += &format!("  printf(\"{name} %zu\\n\", sizeof({name}));\n");
        for (field, _) in fields {
            c += &format!("  printf(\"{name}.{field} %zu\\n\", offsetof({name}, {field}));\n");
        }
    }
    for (name, _) in constants() {
        c += &format!("  printf(\"{name} %llu\\n\", (unsigned long long){name});\n");
    }
    c + "  return 0;\n}\n"
}

fn constants() -> Vec<(&'static str, u64)> {
    let small = [
        ("CAMP_ABI_MAJOR", MAJOR),
        ("CAMP_ABI_MINOR", MINOR),
        ("CAMP_OK", status::OK),
        ("CAMP_RETRY", status::RETRY),
        ("CAMP_THROTTLED", status::THROTTLED),
        ("CAMP_PERMANENT", status::PERMANENT),
        ("CAMP_RECIPIENT_GONE", status::RECIPIENT_GONE),
        ("CAMP_MISCONFIGURED", status::MISCONFIGURED),
        ("CAMP_CANCELLED", status::CANCELLED),
        ("CAMP_INTERNAL", status::INTERNAL),
        ("CAMP_ERROR", level::ERROR),
        ("CAMP_WARN", level::WARN),
        ("CAMP_INFO", level::INFO),
        ("CAMP_DEBUG", level::DEBUG),
        ("CAMP_TRACE", level::TRACE),
        ("CAMP_COUNTER", metric::COUNTER),
        ("CAMP_GAUGE", metric::GAUGE),
        ("CAMP_HISTOGRAM", metric::HISTOGRAM),
        ("CAMP_F_BLOCKING", flags::BLOCKING),
    ];
    let mut all: Vec<_> = small.iter().map(|(name, n)| (*name, u64::from(*n))).collect();
    all.push(("CAMP_UNSET", UNSET));
    all
}

fn expected() -> String {
    let manifest: [u8; manifest_len("probe", "1.0")] = manifest_bytes("probe", "1.0");
    let manifest = core::str::from_utf8(&manifest).unwrap().trim_end_matches('\0');
    let mut out = format!("{}\ncamp_str {}\ncamp_sink {}\n", manifest, size_of::<Str>(), size_of::<Sink>());
    for (name, size, fields) in layouts() {
        out += &format!("{name} {size}\n");
        for (field, at) in fields {
            out += &format!("{name}.{field} {at}\n");
        }
    }
    for (name, n) in constants() {
        out += &format!("{name} {n}\n");
    }
    out
}

fn run(command: &mut Command) -> String {
    let out = command.output().unwrap_or_else(|e| panic!("{:?} does not run: {}", command, e));
    assert!(out.status.success(), "{:?}\n{}", command, String::from_utf8_lossy(&out.stderr));
    assert_eq!(String::from_utf8_lossy(&out.stderr), "", "{command:?} warns");
    String::from_utf8(out.stdout).unwrap()
}

/// gcc and g++ must be there; clang and clang++ are tried as well where they are.
#[test]
fn every_compiler_sees_the_layout_that_rust_has() {
    let dir = std::env::temp_dir().join(format!("campanile-abi-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("include");
    let installed = |name: &str| Command::new(name).arg("--version").output().is_ok();
    let mut compilers = vec![("gcc", "c99", "c"), ("gcc", "c17", "c"), ("g++", "c++11", "cc"), ("g++", "c++17", "cc")];
    if installed("clang") {
        compilers.extend([("clang", "c99", "c"), ("clang++", "c++17", "cc")]);
    }
    for (compiler, standard, suffix) in compilers {
        let (source, program) = (dir.join(format!("probe.{suffix}")), dir.join(format!("{compiler}-{standard}")));
        std::fs::write(&source, probe()).unwrap();
        run(Command::new(compiler)
            .arg(format!("-std={standard}"))
            .args(["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fvisibility=hidden", "-I"])
            .args([&include, &source])
            .arg("-o")
            .arg(&program));
        assert_eq!(run(&mut Command::new(&program)), expected(), "{compiler} {standard}");
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

/// The numbers that the documents promise for 64-bit machines.
#[test]
#[cfg(target_pointer_width = "64")]
fn sizes_are_the_published_ones() {
    let sizes: Vec<_> = layouts().iter().map(|(name, size, _)| ((*name).to_owned(), *size)).collect();
    let want = [
        ("camp_outcome", 80),
        ("camp_delivery", 152),
        ("camp_log", 64),
        ("camp_metric", 48),
        ("camp_http_request", 88),
        ("camp_http_response", 56),
        ("camp_host", 72),
        ("camp_plugin", 80),
    ];
    assert_eq!(sizes, want.map(|(name, size)| (name.to_owned(), size)));
}
