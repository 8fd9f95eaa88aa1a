//! Styles and scripts: hashed names, kept for ever, as small as the browser takes them.

use super::browser::signed_in;
use campanile_tests::{TestHost, prelude::*};
use reqwest::header;

#[tokio::test]
async fn a_linked_file_is_kept_for_ever_and_comes_in_the_form_that_was_asked_for() {
    let host = TestHost::shared().await;
    let api = host.api().anonymous();
    let page = api.get("/admin/sign-in").await.text;
    let link = page.split("rel=\"stylesheet\" href=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();

    let ask = async |accept: &str, tag: &str| {
        let mut request = api.request("GET", &link).header(header::ACCEPT_ENCODING, accept);
        if !tag.is_empty() {
            request = request.header(header::IF_NONE_MATCH, tag);
        }
        api.run(request).await
    };
    let plain = ask("identity", "").await;
    assert_eq!((plain.status, plain.header("content-type")), (200, "text/css; charset=utf-8"));
    assert_eq!(plain.header("cache-control"), "public, max-age=31536000, immutable");
    assert_eq!((plain.header("vary"), plain.header("content-encoding")), ("accept-encoding", ""));

    let packed = ask("gzip, deflate", "").await;
    assert_eq!((packed.status, packed.header("content-encoding")), (200, "gzip"));
    let size = |reply: &Reply| reply.header("content-length").parse::<usize>().unwrap();
    assert!(size(&packed) * 3 < size(&plain), "{} of {}", size(&packed), size(&plain));
    assert_ne!(packed.header("etag"), plain.header("etag"), "two forms, two tags");

    let again = ask("gzip", packed.header("etag")).await;
    assert_eq!((again.status, again.text.len()), (304, 0));
    assert_eq!(ask("gzip", &format!("\"other\", W/{}", packed.header("etag"))).await.status, 304);
    assert_eq!(ask("identity", packed.header("etag")).await.status, 200);

    let (start, end) = link.rsplit_once('-').unwrap();
    let old = format!("{start}-0000000000000000.{}", end.rsplit('.').next().unwrap());
    assert_eq!(api.get(&old).await.status, 404, "a name with another hash is gone");
}

/// Both deferred, htmx would begin before it knows what a stream is on some loads; run at once, it waits for its extension.
#[tokio::test]
async fn htmx_runs_before_its_extension_and_is_not_deferred() {
    let host = TestHost::start().await;
    let page = signed_in(&host, "dana", "owner").await.get("/admin").await.body;
    let scripts: Vec<&str> =
        page.split("<script ").skip(1).map(|tag| tag.split('>').next().unwrap_or_default()).collect();
    let at = |name: &str| scripts.iter().position(|tag| tag.contains(name)).unwrap_or_else(|| panic!("{name}: {page}"));
    let (htmx, stream, own) = (at("/htmx-"), at("/hx-sse-"), at("/app-"));
    assert!(htmx < stream && stream < own, "{scripts:?}");
    assert!(!scripts[htmx].contains("defer") && !scripts[htmx].contains("async"), "{}", scripts[htmx]);
    assert!(scripts[stream].contains("defer") && scripts[own].contains("defer"), "{scripts:?}");
}
