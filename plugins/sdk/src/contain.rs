//! Keeping panics in.

use std::{
    any::Any,
    cell::RefCell,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
};

thread_local! {
    /// Where the last panic of this thread was, as the hook saw it.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// For the hook: `src/lib.rs:10`.
pub(crate) fn note_place(place: String) {
    let _ = PLACE.try_with(|p| *p.borrow_mut() = Some(place));
}

/// What a panic said, and where if the hook is ours.
pub(crate) struct Panic(pub String);

/// Runs `work`; a panic in it ends here, and so does one in the drop of what the panic carried.
pub(crate) fn contained<T>(work: impl FnOnce() -> T) -> Result<T, Panic> {
    catch_unwind(AssertUnwindSafe(work)).map_err(told)
}

/// What the payload of a panic says.
pub(crate) fn told(payload: Box<dyn Any + Send>) -> Panic {
    let text = text_of(payload.as_ref());
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        // Its drop may panic again, and so on for ever: rather leak it.
        mem::forget(second);
    }
    let place = PLACE.try_with(|p| p.borrow_mut().take()).ok().flatten();
    Panic(place.map_or_else(|| text.clone(), |place| format!("{text} (at {place})")))
}

pub(crate) fn text_of(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or("without a text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_end_here_even_when_their_payload_panics_too() {
        struct Bomb(u32);
        impl Drop for Bomb {
            fn drop(&mut self) {
                if self.0 > 0 {
                    std::panic::panic_any(Bomb(self.0 - 1));
                }
            }
        }
        assert_eq!(contained(|| 7).ok(), Some(7));
        let said = |p: Result<(), Panic>| p.err().map(|p| p.0).unwrap_or_default();
        assert!(said(contained(|| panic!("no {}", 1))).starts_with("panicked: no 1"));
        assert!(said(contained(|| std::panic::panic_any(Bomb(3)))).starts_with("panicked: without a text"));
    }
}
