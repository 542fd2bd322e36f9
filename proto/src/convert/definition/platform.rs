//! `runtimePlatform`: what images were built for.

use crate::convert::At;
use crate::pb;
use muster_model::Error;
use muster_model::spec::{CpuArchitecture, RuntimePlatform};

/// # Errors
/// `Unsupported` for what no instance is: Windows.
pub fn checked(wire: &pb::RuntimePlatform) -> Result<RuntimePlatform, Error> {
    let at = At::Field("runtimePlatform");
    let architecture = match wire.cpu_architecture.as_str() {
        "" => None,
        "X86_64" => Some(CpuArchitecture::X86),
        "ARM64" => Some(CpuArchitecture::Arm),
        other => return Err(at.field("cpuArchitecture").invalid(other, "X86_64 or ARM64")),
    };
    let system = at.field("operatingSystemFamily");
    let names_linux = match wire.operating_system_family.as_str() {
        "" => false,
        "LINUX" => true,
        windows if windows.starts_with("WINDOWS_SERVER_") => {
            let instead = "instances run Linux: use LINUX, or leave runtimePlatform out";
            return Err(system.unsupported(windows, instead));
        }
        other => return Err(system.invalid(other, "LINUX")),
    };
    Ok(RuntimePlatform { architecture, names_linux })
}
