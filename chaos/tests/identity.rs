//! Who a container is, as other systems find out: it asks its agent for a JSON Web Token, and a
//! verifier that knows nothing of Muster (PyJWT) believes it by the key that the issuer publishes.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test's way to fail

use muster_chaos::cluster::Cluster;
use muster_chaos::local;
use muster_chaos::python::Environment;
use muster_chaos::wait;
use serde_json::{Value, json};
use std::process::Output;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);
const PACKAGES: [&str; 1] = ["PyJWT[crypto]==2.10.1"];
/// Port of the ECS wire protocol beside a manager's 7400.
const PORT: u16 = 8400;

/// As PyJWT's manual has it: discovery, the key by its id, the claims.
const VERIFY: &str = "
import json, ssl, sys, urllib.request
import jwt
issuer, authority, audience, token = sys.argv[1:]
trust = ssl.create_default_context(cafile=authority)
with urllib.request.urlopen(issuer + '/.well-known/openid-configuration', context=trust) as answer:
    found = json.load(answer)
keys = jwt.PyJWKClient(found['jwks_uri'], ssl_context=trust)
key = keys.get_signing_key_from_jwt(token)
algorithms = found['id_token_signing_alg_values_supported']
print(json.dumps(jwt.decode(token, key.key, algorithms, audience=audience, issuer=issuer)))
";

/// Says to each manager under which URL its tasks' identities are published, one after the other.
fn issued_by(cluster: &mut Cluster, issuer: &str) {
    for number in 1..=cluster.managers {
        let host = format!("m{number}");
        let config = std::fs::read_to_string(cluster.config(&host)).unwrap();
        assert!(config.contains("[ecs]\n"), "{config}");
        let said = config.replace("[ecs]\n", &format!("[ecs]\nissuer = {issuer:?}\n"));
        std::fs::write(cluster.config(&host), said).unwrap();
        cluster.kill(&host);
        cluster.start(&host);
        cluster.wait_voters(3);
    }
}

/// A task of a role, and the token that its container was answered with.
fn identified(cluster: &Cluster) -> (String, String) {
    let ask = "/bin/busybox wget -qO- \"$MUSTER_CONTAINER_IDENTITY_URI?audience=vault\"";
    let script = format!("{ask}; echo; exec /bin/busybox sleep 1000");
    let main = json!({
        "name": "main", "image": cluster.registry.busybox(), "cpu": 64, "memory": 32,
        "stopTimeout": 2, "command": ["/bin/busybox", "sh", "-c", script],
    });
    let role = "arn:aws:iam::111122223333:role/app/reader";
    let definition = json!({
        "family": "known", "networkMode": "bridge", "taskRoleArn": role,
        "containerDefinitions": [main],
    });
    let path = cluster.dir.path().join("known.json").to_string_lossy().into_owned();
    std::fs::write(&path, definition.to_string()).unwrap();
    cluster.run(&["taskdef", "register", &path]);
    let ran = cluster.json(&["task", "run", "known"]);
    let task = ran["tasks"][0]["taskArn"].as_str().unwrap().to_owned();
    let token = wait::until("its container was answered", SOON, || {
        let output = cluster.ask(&["task", "logs", &task]);
        let log = String::from_utf8_lossy(&output.stdout).into_owned();
        // Every one begins so: it is the base64 of `{"`.
        let begun = log.find("eyJ").map(|at| &log[at..]);
        let of_it = |c: &char| c.is_ascii_alphanumeric() || "-_.".contains(*c);
        let token = begun.map(|rest| rest.chars().take_while(of_it).collect::<String>());
        token.filter(|token| token.matches('.').count() == 2).ok_or(log.clone())
    });
    (task, token)
}

fn verify(
    cluster: &Cluster,
    python: &Environment,
    issuer: &str,
    audience: &str,
    token: &str,
) -> Output {
    let mut command = cluster.lab.hub_command(&python.program("python").to_string_lossy());
    let authority = cluster.admin().join("ca.pem");
    local::alone(&mut command).args(["-c", VERIFY, issuer]).arg(authority);
    command.args([audience, token]).output().unwrap()
}

#[test]
fn other_systems_believe_a_tasks_identity_by_the_published_key() {
    let python = Environment::with(&PACKAGES);
    let mut cluster = Cluster::form(3, 1);
    let issuer = format!("https://{}:{PORT}", cluster.lab.address("m2"));
    issued_by(&mut cluster, &issuer);
    let (task, token) = identified(&cluster);

    let believed = |cluster: &Cluster| {
        let output = verify(cluster, &python, &issuer, "vault", &token);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let claims = believed(&cluster);
    let id = task.rsplit('/').next().unwrap();
    let subject = claims["sub"].as_str().unwrap();
    assert!(subject.contains("reader") && claims.to_string().contains(id), "{claims}");

    let refused = |audience: &str, token: &str| {
        let output = verify(&cluster, &python, &issuer, audience, token);
        assert!(!output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(refused("another", &token).contains("InvalidAudienceError"));
    let (head, signature) = token.rsplit_once('.').unwrap();
    let other = if signature.starts_with('A') { "B" } else { "A" };
    let forged = format!("{head}.{other}{}", &signature[1..]);
    assert!(refused("vault", &forged).contains("InvalidSignatureError"));

    // The key is the cluster's, not a leader's.
    let leader = cluster.wait_leader();
    if leader == "m2" {
        cluster.run(&["operator", "raft", "transfer", "--to", "1"]);
        cluster.wait_next_leader("m2");
    }
    let leader = cluster.wait_leader();
    cluster.kill(&leader);
    assert_eq!(believed(&cluster), claims);
}
