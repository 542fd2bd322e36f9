//! Compiles `api/*.proto` with protox (no protoc on the machine) into prost and tonic code, and
//! derives from the same descriptors what must never drift from them: the policy of each rpc and
//! what it acts on, the table of ECS's operations, the spellings of its enums, and the JSON form of
//! each public message (serde attributes and a schema to check input against).

#[path = "build/absent.rs"]
mod absent;
#[path = "build/json.rs"]
mod json;
#[path = "build/operations.rs"]
mod operations;
#[path = "build/policy.rs"]
mod policy;
#[path = "build/spelling.rs"]
mod spelling;
#[path = "build/target.rs"]
mod target;

use prost_reflect::MessageDescriptor;
use std::{env, error::Error, fs, path::PathBuf};

const FILES: [&str; 5] =
    ["options.proto", "ecs.proto", "error.proto", "dispatch.proto", "raft.proto"];

/// Streams of raw bytes: they have no JSON form.
const NO_JSON: [&str; 2] = ["muster.v1.ExecRequest", "muster.v1.ExecResponse"];

/// Messages with secrets in the clear, which `src/hidden.rs` prints without them.
const HIDDEN: [&str; 5] = [
    ".muster.v1.CreateSecretRequest",
    ".muster.v1.PutSecretValueRequest",
    ".muster.dispatch.v1.ContainerSecrets",
    ".muster.dispatch.v1.SecretVariable",
    ".muster.dispatch.v1.SecretFile",
];

/// Rows that a watch tells: up to a kilobyte each, and handed on several times until they are sent.
const BOXED: [&str; 5] = ["service", "task", "container_instance", "cluster", "event"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=api");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let mut compiler = protox::Compiler::new(["api"])?;
    compiler.include_imports(true).include_source_info(true).open_files(FILES)?;
    // Encoded by the compiler itself: prost's own descriptor types would drop our options.
    fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;
    let pool = compiler.descriptor_pool();
    fs::write(out.join("policies.rs"), policy::policies(&pool)?)?;
    fs::write(out.join("operations.rs"), operations::operations(&pool)?)?;
    fs::write(out.join("targets.rs"), target::targets(&pool)?)?;
    let messages: Vec<MessageDescriptor> = pool
        .all_messages()
        .filter(|m| m.package_name() == json::PUBLIC && !m.is_map_entry())
        .filter(|m| !NO_JSON.iter().any(|name| m.full_name().starts_with(name)))
        .collect();
    fs::write(out.join("absent.rs"), absent::tables(&fs::read_to_string("api/absent.txt")?)?)?;
    fs::write(out.join("spelled.rs"), spelling::constants(&pool)?)?;
    fs::write(out.join("schema.rs"), json::schema(&messages)?)?;
    fs::write(out.join("tokened.rs"), json::tokened(&messages)?)?;
    let mut builder = tonic_prost_build::configure()
        .bytes(".")
        .btree_map(".")
        .skip_debug(HIDDEN)
        .codec_path("crate::codec::SmallBuffers");
    for row in BOXED {
        builder = builder.boxed(format!(".muster.v1.WatchResponse.Change.row.{row}"));
    }
    json::names(builder, &messages)?.compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
