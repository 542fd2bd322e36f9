//! Compiles `api/*.proto` with protox (no protoc on the machine) into prost and tonic code.

use std::{env, path::PathBuf};

const FILES: [&str; 4] = ["options.proto", "ecs.proto", "dispatch.proto", "raft.proto"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=api");
    let descriptors = protox::compile(FILES, ["api"])?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    std::fs::write(out.join("descriptors.bin"), prost::Message::encode_to_vec(&descriptors))?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
