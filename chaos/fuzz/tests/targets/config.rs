//! Files that an operator writes: an agent's configuration and the registries' credentials.
//!
//! A configuration that passes is written and read back as the same.

use super::{text, texts};
use muster_agent::config::AgentConfig;
use muster_agent::config::machinery::{docker_credentials, runtime_config};
use muster_model::InstanceId;

#[test]
fn agent_config() {
    let seeds = || {
        texts(&[
            include_str!("../../../../deploy/config/agent.toml"),
            "data_dir = '/d'\nmanagers = ['m:1']\ncluster = 'c'\nzone = 'z'\naddress = 'a'\n\
             simulate = { start_ms = 1, exit_ms = 2 }\ncapacity = { cpu = 1, memory_mib = 2 }\n\
             bridge = { name = 'b', subnet = '10.0.0.0/29' }\n",
        ])
    };
    muster_fuzz::target("agent_config", seeds, |input| {
        let Some(text) = text(input) else { return };
        let Ok(mut config) = toml::from_str::<AgentConfig>(text) else { return };
        if config.check().is_err() {
            return;
        }
        let written = toml::to_string(&config).expect("what was read can be written");
        assert_eq!(toml::from_str::<AgentConfig>(&written).as_ref(), Ok(&config), "{written}");
        // Files that it names are no input here.
        config.registry.credentials = None;
        config.registry.authorities.clear();
        let _ = runtime_config(&config, InstanceId::from_bits(7));
    });
}

#[test]
fn registry_credentials() {
    let seeds = || {
        texts(&[
            r#"{"auths": {"https://index.docker.io/v1/": {"auth": "YW5uOnM6M2NyZXQ="}, "10.0.0.1:5000": {"username": "bob", "password": "x"}, "r": {"registrytoken": "t"}}, "credsStore": "desktop"}"#,
            r#"{"auths": {"r": {"auth": "c2VjcmV0"}}}"#,
        ])
    };
    muster_fuzz::target("registry_credentials", seeds, |input| {
        let _ = docker_credentials(input);
    });
}
