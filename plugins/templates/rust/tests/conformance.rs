use campanile_plugin::{
    prelude::*,
    testing::{Harness, Sample, block_on, conformance},
};
use my_channel::MyChannel;

fn config() -> Value {
    json!({ "url": "https://example.org/in", "token": "t0ken" })
}

#[test]
fn passes_the_exam() {
    conformance::<MyChannel>(&config(), &Sample::to("ada"));
}

#[test]
fn posts_and_reads_the_answer() {
    block_on(async {
        let channel = Harness::<MyChannel>::start(config()).await.unwrap();
        channel.deliver_ok(&Sample::to("ada").text("It arrives on Friday.")).await;
        let request = &channel.script().requests()[0];
        assert_eq!(request.headers["authorization"], "Bearer t0ken");
        assert!(String::from_utf8_lossy(&request.body).contains("It arrives on Friday."));

        channel.script().reply(HttpReply::new(503, "busy"));
        assert_eq!(channel.expect_retry(&Sample::to("ada")).await.code, "http_503");
        channel.script().reply(HttpReply::new(410, "gone"));
        channel.expect_gone(&Sample::to("ada")).await;
    });
}
