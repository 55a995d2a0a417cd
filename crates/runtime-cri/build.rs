//! Generates the CRI client from our trimmed protos, without protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let protos = ["proto/cri.proto", "proto/containerd.proto"];
    for proto in protos {
        println!("cargo:rerun-if-changed={proto}");
    }
    let descriptors = protox::compile(protos, ["proto"])?;
    tonic_prost_build::configure().build_server(false).btree_map(".").compile_fds(descriptors)?;
    Ok(())
}
