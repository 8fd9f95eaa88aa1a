//! Why a delivery failed, in two short words that dead letters are grouped by: how the attempt ended and where it went.

use campanile_model::work::Finish;

/// A word of a group must fit a table; the whole answer stands in the attempt.
const LONGEST: usize = 60;

/// The code that the far side or the channel gave, else how the attempt ended.
pub fn error_of(finish: &Finish) -> String {
    let code = finish.code.as_deref().map(str::trim).filter(|c| !c.is_empty());
    code.unwrap_or(finish.outcome.as_str()).chars().take(LONGEST).collect()
}

/// `northwind.example` of an address or a URL. Nothing of a telephone number or a token: those name a person.
pub fn destination(recipient: &str) -> String {
    let host = if let Some((_, rest)) = recipient.split_once("://") {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
        authority.rsplit('@').next().unwrap_or(authority)
    } else if let Some((_, domain)) = recipient.rsplit_once('@') {
        domain
    } else {
        ""
    };
    host.trim_end_matches('>').to_lowercase().chars().take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_a_host_and_never_a_person() {
        for (recipient, host) in [
            ("Mia@Northwind.Example", "northwind.example"),
            ("https://user:secret@Hooks.example:8443/in?token=s", "hooks.example:8443"),
            ("https://hooks.example", "hooks.example"),
            ("+4915123456", ""),
            ("device-token", ""),
            ("", ""),
        ] {
            assert_eq!(destination(recipient), host);
        }
    }
}
