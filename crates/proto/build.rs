//! Compiles the `.proto` files with protox, so that a build needs no protoc on the machine.

use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    let files = [
        "quorate/v1/common.proto",
        "quorate/v1/messaging.proto",
        "quorate/v1/admin.proto",
        "quorate/internal/v1/replication.proto",
        "quorate/internal/v1/session.proto",
        "quorate/internal/v1/coordination.proto",
    ];
    println!("cargo:rerun-if-changed={}", root.display());
    let mut compiler = protox::Compiler::new([&root])?;
    compiler.include_source_info(false).include_imports(true);
    compiler.open_files(files)?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(
        out.join("quorate.bin"),
        compiler.encode_file_descriptor_set(),
    )?;
    // The generated documentation would repeat the comments of the .proto files, which are the reference.
    tonic_prost_build::configure()
        .bytes(".")
        .disable_comments(["."])
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
