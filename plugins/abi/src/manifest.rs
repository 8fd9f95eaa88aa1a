//! The text that a host reads from the file's bytes before it runs any of its code.

const ARCH: &str = if cfg!(target_arch = "x86_64") {
    "x86_64"
} else if cfg!(target_arch = "aarch64") {
    "aarch64"
} else if cfg!(target_arch = "x86") {
    "x86"
} else if cfg!(target_arch = "riscv64") {
    "riscv64"
} else if cfg!(target_arch = "arm") {
    "arm"
} else {
    "unknown"
};

const SYSTEM: &str = if cfg!(all(target_os = "windows", target_env = "msvc")) {
    "-windows-msvc"
} else if cfg!(target_os = "windows") {
    "-windows-gnu"
} else if cfg!(target_os = "macos") {
    "-macos"
} else if cfg!(target_os = "freebsd") {
    "-freebsd"
} else if cfg!(all(target_os = "linux", target_env = "gnu")) {
    "-linux-gnu"
} else if cfg!(target_os = "linux") {
    "-linux-musl"
} else {
    "-unknown"
};

const TARGET_BYTES: [u8; ARCH.len() + SYSTEM.len()] = join(&[ARCH, SYSTEM]);

/// The machine that this is compiled for, as a manifest names it; `CAMP_TARGET` in C.
pub const TARGET: &str = match core::str::from_utf8(&TARGET_BYTES) {
    Ok(text) => text,
    Err(_) => "unknown",
};

const fn parts<'a>(name: &'a str, version: &'a str) -> [&'a str; 7] {
    [
        "{\"campanile_abi\":1,\"min_minor\":0,\"name\":\"",
        name,
        "\",\"version\":\"",
        version,
        "\",\"target\":\"",
        TARGET,
        "\"}\0",
    ]
}

/// Length of [`manifest_bytes`].
pub const fn manifest_len(name: &str, version: &str) -> usize {
    let parts = parts(name, version);
    let (mut len, mut i) = (0, 0);
    while i < parts.len() {
        len += parts[i].len();
        i += 1;
    }
    len
}

/// The manifest of a plugin, NUL at the end. Fails the build if the name or the version isn't one.
pub const fn manifest_bytes<const N: usize>(name: &str, version: &str) -> [u8; N] {
    let (n, v) = (name.as_bytes(), version.as_bytes());
    assert!(!n.is_empty() && n.len() <= 64 && n[0].is_ascii_lowercase(), "a plugin's name begins with a letter a-z");
    let mut i = 0;
    while i < n.len() {
        assert!(
            n[i].is_ascii_lowercase() || n[i].is_ascii_digit() || n[i] == b'_',
            "a plugin's name is made of a-z, 0-9 and _"
        );
        i += 1;
    }
    assert!(!v.is_empty() && v.len() <= 64, "a plugin's version has 1 to 64 characters");
    i = 0;
    while i < v.len() {
        assert!(
            v[i].is_ascii_alphanumeric() || v[i] == b'.' || v[i] == b'-' || v[i] == b'+',
            "a plugin's version is made of letters, digits, dots, + and -"
        );
        i += 1;
    }
    join(&parts(name, version))
}

const fn join<const N: usize>(parts: &[&str]) -> [u8; N] {
    let mut out = [0; N];
    let (mut at, mut part) = (0, 0);
    while part < parts.len() {
        let bytes = parts[part].as_bytes();
        let mut i = 0;
        while i < bytes.len() {
            out[at] = bytes[i];
            at += 1;
            i += 1;
        }
        part += 1;
    }
    assert!(at == N, "the length is that of manifest_len");
    out
}

/// Puts the manifest into the library and exports it: `manifest!("sms", "1.2.0")`, once, at the crate's root.
#[macro_export]
macro_rules! manifest {
    ($name:expr, $version:expr) => {
        #[used]
        #[no_mangle]
        #[allow(non_upper_case_globals)]
        #[cfg_attr(target_vendor = "apple", link_section = "__DATA,__camp")]
        #[cfg_attr(not(target_vendor = "apple"), link_section = ".camp")]
        pub static campanile_plugin_manifest: [u8; $crate::manifest_len($name, $version)] =
            $crate::manifest_bytes($name, $version);
    };
}
