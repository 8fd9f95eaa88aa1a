//! Bodies that parse badly, deeply or strangely.

use super::*;

async fn post(body: Vec<u8>) -> Reply {
    let api = TestHost::shared().await.api();
    let request = api.request("POST", "/api/v1/notifications").header("content-type", "application/json").body(body);
    api.run(request).await
}

#[tokio::test]
async fn deep_nesting_wide_objects_and_odd_numbers_are_answered() {
    let deep = format!(r#"{{"user_id":"u","title":"T","data":{{"a":{}1{}}}}}"#, "[".repeat(5000), "]".repeat(5000));
    let wide: String = (0..20_000).map(|n| format!(r#""f{n}":1,"#)).collect::<Vec<_>>().concat();
    let wide = format!(r#"{{{wide}"title":"T"}}"#);
    for body in [
        deep.into_bytes(),
        wide.into_bytes(),
        br#"{"user_id":"u","title":"T","data":{"n":1e999999}}"#.to_vec(),
        br#"{"user_id":"u","title":"\ud800","message":""}"#.to_vec(),
        b"{\"user_id\":\"u\",\"title\":\"\xff\xfe\"}".to_vec(),
        br#"{"user_id":{"$gt":""},"title":["T"]}"#.to_vec(),
        br#"{"user_id":1,"title":true,"to":{},"persist":"no"}"#.to_vec(),
    ] {
        let reply = post(body).await;
        assert!(matches!(reply.status, 400 | 413 | 422), "{}: {}", reply.status, reply.text);
        reply.problem(reply.status);
        assert!(reply.text.len() < 64 * 1024, "the answer to a small body has {} bytes", reply.text.len());
    }
    well(TestHost::shared().await).await;
}

#[tokio::test]
async fn a_key_given_twice_does_not_smuggle() {
    let reply = post(br#"{"user_id":"u","title":"T","title":""}"#.to_vec()).await;
    assert!(matches!(reply.status, 400 | 422), "{}: {}", reply.status, reply.text);
}

#[tokio::test]
async fn strange_paths_and_queries_are_answered() {
    let host = TestHost::shared().await;
    for path in [
        "/api/v1/notifications/%00",
        "/api/v1/notifications/..%2f..%2fetc%2fpasswd",
        "/api/v1/users/%ff%fe",
        "/api/v1/notifications?limit=99999999999999999999",
        "/api/v1/notifications?limit=-1",
        "/api/v1/notifications?cursor=%00%ff",
        "/api/v1/me/notifications?before=99999999999999999999",
        "/u/nonsense",
        "/unsubscribe/nonsense",
    ] {
        let reply = host.api().get(path).await;
        assert!((400..500).contains(&reply.status), "{path}: {} {}", reply.status, reply.text);
    }
    well(host).await;
}

#[tokio::test]
async fn pages_of_the_dev_server_are_absent_without_it() {
    let host = TestHost::shared().await;
    for path in ["/dev", "/dev/mail", "/demo", "/demo/anything", "/dev/mail/1"] {
        assert_eq!(host.api().get(path).await.status, 404, "{path}");
    }
}
