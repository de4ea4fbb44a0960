//! Generates the protocols from `proto/` without an installed protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files =
        ["proto/kontor/query/v1/query.proto", "proto/kontor/peer/v1/peer.proto", "proto/kontor/bank/v1/bank.proto"];
    for file in files {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(files, ["proto"])?;
    tonic_prost_build::configure().emit_rerun_if_changed(false).compile_fds(descriptors)?;
    Ok(())
}
