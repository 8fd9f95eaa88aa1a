//! STUB.

use super::App;

pub fn routes() -> App {
    App::new()
}
