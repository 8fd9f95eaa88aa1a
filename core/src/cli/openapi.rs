//! `campanile openapi`: the document of the HTTP API, from the same code that serves it.

use super::{
    exit::{Failure, Outcome},
    output::Output,
};
use crate::http::openapi_document;

pub fn run(out: Output) -> Outcome {
    let document = openapi_document();
    let text = if out.json { document.to_json() } else { document.to_pretty_json() };
    out.answer(text.map_err(|e| Failure::failed("the document can't be written").why(e))?);
    Ok(())
}
