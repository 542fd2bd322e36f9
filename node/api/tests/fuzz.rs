//! A fuzz target over the whole door of the ECS wire protocol, from the bytes of a connection to
//! those of its answer: head, body, signature, operation, rules. `cargo xtask fuzz` runs it for
//! long; the corpus is in chaos/fuzz.

mod support;

mod door {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "a target fails by panicking")]

    use super::support::{Bench, definition};
    use muster_api::ecs::Trust;
    use muster_api::ecs::listener::{Transport, serve};
    use std::panic;
    use std::sync::Once;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio_util::sync::CancellationToken;

    /// Whatever is asked, of a state of one service; 4 MiB of names are another test's.
    const ANSWER_BYTES_MAX: usize = 64 * 1024;
    /// A call may wait for a leader's word for two seconds; this is no wait for the next head.
    const ANSWER_MAX: Duration = Duration::from_secs(8);

    /// A panic of a connection's task ends that task only: the runtime catches it.
    static PANICKED: AtomicBool = AtomicBool::new(false);
    static HOOK: Once = Once::new();

    fn noticing_panics() {
        HOOK.call_once(|| {
            let told = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                PANICKED.store(true, Ordering::SeqCst);
                told(info);
            }));
        });
    }

    #[test]
    fn ecs_door() {
        muster_fuzz::target("ecs_door", seeds, |input| {
            noticing_panics();
            // The first byte chooses whether anybody is trusted.
            let Some((first, request)) = input.split_first() else { return };
            let trust = if first % 2 == 0 { Trust::Anyone } else { Trust::Signed };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let answer = runtime.unwrap().block_on(exchange(trust, request));
            assert!(!PANICKED.swap(false, Ordering::SeqCst), "answering panicked");
            assert!(answer.len() <= ANSWER_BYTES_MAX, "{} bytes", answer.len());
            let http = answer.is_empty() || answer.starts_with(b"HTTP/1.");
            assert!(http, "{}", String::from_utf8_lossy(&answer));
            if trust == Trust::Signed {
                let passed = answer.windows(13).any(|text| text == b" 200 OK\r\ncont");
                assert!(!passed, "nobody here has a secret");
            }
        });
    }

    /// What a peer reads that sends `request` and no more.
    async fn exchange(trust: Trust, request: &[u8]) -> Vec<u8> {
        let mut bench = Bench::start().await;
        let web = muster_proto::convert::definition::register(&definition("web", 256, 128));
        bench.commit(web.unwrap()).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(serve(listener, Transport::Plain, bench.api.ecs(trust), stop.clone()));
        let mut socket = TcpStream::connect(address).await.unwrap();
        // The other side may close before it has read all.
        let _ = socket.write_all(request).await;
        let _ = socket.shutdown().await;
        let mut answer = Vec::new();
        let read = socket.read_to_end(&mut answer);
        // Closed with something unread, the connection is reset: what came before that counts.
        let _ = tokio::time::timeout(ANSWER_MAX, read).await.expect("the peer hears the end");
        stop.cancel();
        answer
    }

    const HEAD: &str = "POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-amz-json-1.1\r\n";

    fn request(operation: &str, body: &str) -> Vec<u8> {
        let length = body.len();
        let target = format!("AmazonEC2ContainerServiceV20141113.{operation}");
        format!("0{HEAD}x-amz-target: {target}\r\ncontent-length: {length}\r\n\r\n{body}").into()
    }

    fn seeds() -> Vec<Vec<u8>> {
        let definition =
            r#"{"family":"a","containerDefinitions":[{"name":"a","image":"b","memory":9}]}"#;
        let strategy = r#"[{"capacityProvider":"FARGATE","weight":1,"base":0}]"#;
        let cluster = format!(
            r#"{{"clusterName":"b","capacityProviders":["FARGATE"],"defaultCapacityProviderStrategy":{strategy}}}"#
        );
        let signed = "1POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-amz-json-1.1\r\n\
            x-amz-target: AmazonEC2ContainerServiceV20141113.ListClusters\r\n\
            x-amz-date: 20150830T123600Z\r\nauthorization: AWS4-HMAC-SHA256 \
            Credential=AKIAAERUKZ4JVPG66AJD/20150830/local/ecs/aws4_request, \
            SignedHeaders=host;x-amz-date, Signature=00\r\ncontent-length: 2\r\n\r\n{}";
        let form = "0POST / HTTP/1.1\r\nhost: x\r\n\
            content-type: application/x-www-form-urlencoded\r\ncontent-length: 43\r\n\r\n\
            Action=GetCallerIdentity&Version=2011-06-15";
        let chunked =
            "0POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
        vec![
            request("CreateCluster", &cluster),
            request("DescribeClusters", r#"{"clusters":["default"],"include":["TAGS"]}"#),
            request("RegisterTaskDefinition", definition),
            request(
                "CreateService",
                r#"{"serviceName":"w","taskDefinition":"web","desiredCount":1}"#,
            ),
            request("RunTask", r#"{"taskDefinition":"web:1","count":2,"clientToken":"t"}"#),
            request("CreateTaskSet", "{}"),
            request("PutAccountSetting", r#"{"name":"containerInsights","value":"on"}"#),
            signed.into(),
            form.into(),
            chunked.into(),
            b"0GET /health HTTP/1.0\r\n\r\n".to_vec(),
            b"0POST /_muster/reset HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n".to_vec(),
        ]
    }
}
