//! Certificates of the tests' own, made with openssl.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

/// A certificate for the loopback address, signed by an authority of the test's own: the files of authority, certificate
/// and key.
///
/// # Errors
/// When openssl is not there.
pub fn certificates(folder: &Path) -> Result<[PathBuf; 3]> {
    let openssl = |arguments: &[&str]| -> Result<()> {
        let output = Command::new("openssl")
            .args(arguments)
            .current_dir(folder)
            .output()
            .context("run openssl")?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "openssl {arguments:?}: {said}");
        Ok(())
    };
    let key = [
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
    ];
    let mut authority = vec!["req", "-x509", "-days", "2", "-subj", "/CN=test authority"];
    authority.extend(key);
    authority.extend(["-keyout", "ca-key.pem", "-out", "ca.pem"]);
    openssl(&authority)?;
    let mut request = vec!["req", "-subj", "/CN=test"];
    request.extend(key);
    request.extend(["-keyout", "key.pem", "-out", "request.pem"]);
    openssl(&request)?;
    std::fs::write(
        folder.join("extensions"),
        "subjectAltName = IP:127.0.0.1\nextendedKeyUsage = serverAuth, clientAuth\n",
    )?;
    openssl(&[
        "x509",
        "-req",
        "-days",
        "2",
        "-in",
        "request.pem",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca-key.pem",
        "-CAcreateserial",
        "-extfile",
        "extensions",
        "-out",
        "certificate.pem",
    ])?;
    Ok(["ca.pem", "certificate.pem", "key.pem"].map(|name| folder.join(name)))
}
