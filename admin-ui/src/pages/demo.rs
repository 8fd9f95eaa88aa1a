//! `/demo`: two people side by side, a form that sends to them, a log of every frame.

use super::Frame;
use askama::Template;

/// One person with a token of their own.
#[derive(Clone, Debug)]
pub struct Person {
    pub user: String,
    pub email: String,
    pub token: String,
}

#[derive(Template, Debug)]
#[template(path = "pages/demo.html")]
pub struct Demo {
    pub frame: Frame,
    pub people: Vec<Person>,
    /// `ws://localhost:8000`, as the browser reached us.
    pub socket: String,
}

impl Demo {
    /// The page of the README with this server's address and the first person's token.
    fn snippet(&self) -> String {
        let token = self.people.first().map_or("", |p| p.token.as_str());
        SNIPPET.replace("ws://localhost:8000", &self.socket).replace("TOKEN", token)
    }
}

/// The twelve lines that receive.
pub const SNIPPET: &str = include_str!("../../assets/snippet.html");

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Demo {
        let person =
            |user: &str| Person { user: user.into(), email: format!("{user}@example.org"), token: "a.b.c".into() };
        Demo {
            frame: super::super::sample_frame("/demo"),
            people: vec![person("ada"), person("bo")],
            socket: "ws://127.0.0.1:9999".into(),
        }
    }

    #[test]
    fn has_a_pane_per_person_and_a_snippet_that_works_as_it_is() {
        let html = sample().render().unwrap();
        super::super::check(&html);
        assert!(html.contains("data-user=\"ada\"") && html.contains("data-user=\"bo\""));
        assert!(html.contains("ws://127.0.0.1:9999/ws/notifications"));
        assert!(!html.contains("TOKEN"));
    }

    #[test]
    fn the_snippet_is_twelve_lines_and_the_readme_shows_it() {
        assert_eq!(SNIPPET.trim_end().lines().count(), 12);
        let readme = include_str!("../../../README.md");
        assert!(readme.contains(SNIPPET.trim_end()), "README.md shows another page than the demo");
    }
}
