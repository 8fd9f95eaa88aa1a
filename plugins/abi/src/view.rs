//! Reading a struct that another compiler, and perhaps another version, wrote.

use crate::Str;
use core::{
    fmt,
    marker::PhantomData,
    mem::{align_of, size_of},
};

/// A struct that may be longer or shorter than this crate knows it. Implemented by this crate alone.
pub trait Growable: Copy + sealed::Sealed {
    /// The shortest that is of any use: up to the last field without a default.
    fn least_size() -> usize;
}

pub(crate) mod sealed {
    pub trait Sealed {}
}

/// A borrowed struct, as long as its own `size` says and no longer. One accessor per field.
///
/// ```compile_fail
/// // Fields can't be read past the accessors.
/// let outcome = campanile_plugin_abi::Outcome::new(0);
/// let status = outcome.status;
/// ```
pub struct View<'a, T> {
    ptr: *const T,
    /// Read once: the other side can't change its mind under us.
    size: usize,
    borrowed: PhantomData<&'a T>,
}

impl<T> Clone for View<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for View<'_, T> {}

/// A pointer that can't be the struct it is said to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadStruct {
    /// The pointer is null.
    Null,
    /// The pointer isn't aligned.
    Misaligned,
    /// `size` doesn't cover the fields that have no default.
    TooShort {
        /// What the writer set.
        size: u32,
        /// What it must be at least.
        least: u32,
    },
}

impl fmt::Display for BadStruct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("the pointer is NULL"),
            Self::Misaligned => f.write_str("the pointer is not aligned"),
            Self::TooShort { size, least } => write!(f, "size is {size}, but must be at least {least}"),
        }
    }
}

impl<'a, T: Growable> View<'a, T> {
    /// # Safety
    ///
    /// `ptr` is null, or for `'a` it points to a struct whose first field is its size in bytes, and that many bytes are
    /// readable, initialised and unchanged. For `'a`, every text in it is readable, or NULL, or empty.
    pub unsafe fn new(ptr: *const T) -> Result<Self, BadStruct> {
        if ptr.is_null() {
            return Err(BadStruct::Null);
        }
        if ptr as usize % align_of::<T>() != 0 {
            return Err(BadStruct::Misaligned);
        }
        // SAFETY: not null, aligned, and every such struct begins with its size (the caller's promise).
        let size = unsafe { ptr.cast::<u32>().read() };
        if (size as usize) < T::least_size() {
            return Err(BadStruct::TooShort { size, least: T::least_size() as u32 });
        }
        Ok(Self { ptr, size: size as usize, borrowed: PhantomData })
    }

    /// What the writer set: more than this crate's own if the writer is newer.
    pub fn size(self) -> usize {
        self.size
    }

    /// The field at `at`, if the struct is that long.
    pub(crate) fn value_at<F: Copy>(self, at: usize) -> Option<F> {
        if at + size_of::<F>() > self.size {
            return None;
        }
        // SAFETY: the struct is readable up to `size` (promised to `new`), which covers this field; `at` is the offset of
        // a field of type `F`, so it is aligned.
        Some(unsafe { self.ptr.cast::<u8>().add(at).cast::<F>().read() })
    }

    /// The text at `at`; what isn't there is empty.
    pub(crate) fn text_at(self, at: usize) -> &'a [u8] {
        // SAFETY: the texts of this struct are readable for 'a (promised to `new`).
        self.value_at::<Str>(at).map_or(&[], |text| unsafe { text.bytes() })
    }
}

/// Declares a growable struct: `text` fields read as bytes, `value` fields as themselves or the default given, and
/// `maybe` fields are functions that may be missing.
macro_rules! growable {
    (
        $(#[$meta:meta])*
        pub struct $name:ident, at least up to $least:ident {
            $( $(#[$doc:meta])* $kind:ident $field:ident : $ty:ty $(= $absent:expr)?, )*
        }
    ) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy)]
        pub struct $name {
            size: u32,
            $( $field: $ty, )*
        }

        impl $name {
            /// Every field at its default.
            const fn blank() -> Self {
                Self {
                    size: core::mem::size_of::<Self>() as u32,
                    $( $field: crate::view::growable!(@blank $kind $(= $absent)?), )*
                }
            }

            $(
                $(#[$doc])*
                #[must_use]
                #[allow(clippy::should_implement_trait)]
                pub const fn $field(mut self, value: crate::view::growable!(@given $kind $ty)) -> Self {
                    self.$field = value;
                    self
                }
            )*

            /// Name and offset of each field in C's order.
            #[cfg(test)]
            pub(crate) fn layout() -> std::vec::Vec<(&'static str, usize)> {
                std::vec![("size", 0), $( (stringify!($field), crate::view::offset!($name, $field)), )*]
            }
        }

        impl crate::view::sealed::Sealed for $name {}
        impl crate::Growable for $name {
            fn least_size() -> usize {
                crate::view::end!($name, $least)
            }
        }

        impl<'a> crate::View<'a, $name> {
            $(
                $(#[$doc])*
                pub fn $field(self) -> crate::view::growable!(@out $kind 'a $ty) {
                    let at = crate::view::offset!($name, $field);
                    crate::view::growable!(@read $kind self at $(= $absent)?)
                }
            )*
        }
    };
    (@blank text) => { crate::Str::EMPTY };
    (@blank maybe) => { None };
    (@blank value = $absent:expr) => { $absent };
    (@given text $ty:ty) => { crate::Str };
    (@given maybe $ty:ty) => { $ty };
    (@given value $ty:ty) => { $ty };
    (@out text $life:lifetime $ty:ty) => { &$life [u8] };
    (@out maybe $life:lifetime $ty:ty) => { $ty };
    (@out value $life:lifetime $ty:ty) => { $ty };
    (@read text $view:ident $at:ident) => { $view.text_at($at) };
    (@read maybe $view:ident $at:ident) => { $view.value_at($at).unwrap_or(None) };
    (@read value $view:ident $at:ident = $absent:expr) => { $view.value_at($at).unwrap_or($absent) };
}

/// Where a field begins. (`offset_of!` is younger than this crate's oldest compiler.)
macro_rules! offset {
    ($name:ident, $field:ident) => {{
        let room = core::mem::MaybeUninit::<$name>::uninit();
        let base = room.as_ptr();
        // SAFETY: the place is inside `room`; nothing is read.
        (unsafe { core::ptr::addr_of!((*base).$field) }) as usize - base as usize
    }};
}

/// Where a field ends.
macro_rules! end {
    ($name:ident, $field:ident) => {{
        fn size_of_pointee<F>(_: *const F) -> usize {
            core::mem::size_of::<F>()
        }
        let room = core::mem::MaybeUninit::<$name>::uninit();
        // SAFETY: the place is inside `room`; nothing is read.
        let field = unsafe { core::ptr::addr_of!((*room.as_ptr()).$field) };
        field as usize - room.as_ptr() as usize + size_of_pointee(field)
    }};
}

pub(crate) use {end, growable, offset};
