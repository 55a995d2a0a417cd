//! Images made on the spot, for machines without a registry: the pause image that holds a sandbox's
//! namespaces, and a busybox image from the machine's static busybox.

use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use runtime::{Error, Result, Runtime};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::Cri;

/// The reference of our pause image; the private containerd runs sandboxes from it.
pub const PAUSE: &str = "kobune.dev/pause:1";
/// The references of our busybox image.
pub const BUSYBOX: [&str; 2] = ["docker.io/library/busybox:latest", "docker.io/library/busybox:1"];

/// A single-layer image in memory.
pub struct ImageArchive {
    tags: Vec<String>,
    command: Vec<String>,
    layer: tar::Builder<Vec<u8>>,
}

impl ImageArchive {
    /// An empty image that answers to `tags` and runs `command`.
    pub fn new(tags: &[&str], command: &[&str]) -> Self {
        let own = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect();
        Self { tags: own(tags), command: own(command), layer: tar::Builder::new(Vec::new()) }
    }

    /// Adds a directory.
    pub fn directory(&mut self, path: &str, mode: u32) -> io::Result<&mut Self> {
        self.entry(path, tar::EntryType::Directory, mode, b"")?;
        Ok(self)
    }

    /// Adds a file.
    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> io::Result<&mut Self> {
        self.entry(path, tar::EntryType::Regular, mode, content)?;
        Ok(self)
    }

    /// Adds a hard link to a file that was added before.
    pub fn link(&mut self, path: &str, target: &str) -> io::Result<&mut Self> {
        let mut header = header(tar::EntryType::Link, 0o755, 0);
        self.layer.append_link(&mut header, path, target)?;
        Ok(self)
    }

    fn entry(&mut self, path: &str, kind: tar::EntryType, mode: u32, content: &[u8]) -> io::Result<()> {
        let mut header = header(kind, mode, content.len() as u64);
        self.layer.append_data(&mut header, path, content)
    }

    /// The image as a `docker save` archive, which every engine can load.
    pub fn build(self) -> io::Result<Vec<u8>> {
        let layer = self.layer.into_inner()?;
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let config = serde_json::json!({
            "architecture": architecture,
            "os": "linux",
            "config": {
                "Cmd": self.command,
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            },
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", hex(&layer))]},
        })
        .to_string();
        let config_name = format!("{}.json", hex(config.as_bytes()));
        let manifest = serde_json::json!([
            {"Config": config_name, "RepoTags": self.tags, "Layers": ["layer.tar"]},
        ])
        .to_string();
        let mut archive = tar::Builder::new(Vec::new());
        for (name, content) in [
            (config_name.as_str(), config.as_bytes()),
            ("layer.tar", &layer),
            ("manifest.json", manifest.as_bytes()),
        ] {
            let mut header = header(tar::EntryType::Regular, 0o644, content.len() as u64);
            archive.append_data(&mut header, name, content)?;
        }
        archive.into_inner()
    }
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    // A fixed time keeps the digest, and so the image, the same on every start.
    header.set_mtime(0);
    header
}

fn hex(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|b| format!("{b:02x}")).collect()
}

/// The pause image: a program of 200 bytes that sleeps, and reaps the orphans of a pod whose containers
/// share its process namespace.
pub fn pause() -> io::Result<Vec<u8>> {
    let mut image = ImageArchive::new(&[PAUSE], &["/pause"]);
    if std::env::consts::ARCH == "x86_64" {
        image.file("pause", 0o755, &pause_program())?;
        return image.build();
    }
    let mut image = ImageArchive::new(&[PAUSE], &["/pause", "sleep", "2147483647"]);
    image.file("pause", 0o755, &std::fs::read(busybox_path()?)?)?;
    image.build()
}

/// A static x86-64 ELF program: ignore SIGCHLD (so the kernel reaps children), then `pause()` forever.
fn pause_program() -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let code: &[u8] = &[
        0xb8, 13, 0, 0, 0, // mov eax, SYS_rt_sigaction
        0xbf, 17, 0, 0, 0, // mov edi, SIGCHLD
        0x48, 0x8d, 0x35, 21, 0, 0, 0, // lea rsi, [rip + action]
        0x31, 0xd2, // xor edx, edx
        0x41, 0xba, 8, 0, 0, 0, // mov r10d, sizeof(sigset_t)
        0x0f, 0x05, // syscall
        0xb8, 34, 0, 0, 0, // again: mov eax, SYS_pause
        0x0f, 0x05, // syscall
        0xeb, 0xf7, // jmp again
        0, 0, // alignment of `action`
    ];
    let mut action = [0u8; 32];
    action[0] = 1; // SIG_IGN
    let size = HEADERS + code.len() as u64 + action.len() as u64;
    let mut elf = Vec::new();
    elf.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    elf.extend_from_slice(&2u16.to_le_bytes()); // executable
    elf.extend_from_slice(&62u16.to_le_bytes()); // x86-64
    elf.extend_from_slice(&1u32.to_le_bytes());
    for word in [BASE + HEADERS, 64, 0] {
        elf.extend_from_slice(&u64::to_le_bytes(word)); // entry, program headers, no sections
    }
    elf.extend_from_slice(&0u32.to_le_bytes());
    for half in [64u16, 56, 1, 0, 0, 0] {
        elf.extend_from_slice(&half.to_le_bytes());
    }
    elf.extend_from_slice(&1u32.to_le_bytes()); // loadable
    elf.extend_from_slice(&5u32.to_le_bytes()); // readable, executable
    for word in [0, BASE, BASE, size, size, 0x1000] {
        elf.extend_from_slice(&u64::to_le_bytes(word));
    }
    elf.extend_from_slice(code);
    elf.extend_from_slice(&action);
    elf
}

fn busybox_path() -> io::Result<PathBuf> {
    ["/usr/bin/busybox", "/bin/busybox"].map(PathBuf::from).into_iter().find(|p| p.exists()).ok_or_else(
        || {
            io::Error::new(
                io::ErrorKind::NotFound,
                "busybox is not installed (Debian: apt-get install busybox-static)",
            )
        },
    )
}

/// A busybox image from the machine's static busybox, with every applet it has.
pub fn busybox() -> io::Result<Vec<u8>> {
    let program = std::fs::read(busybox_path()?)?;
    let listing = std::process::Command::new(busybox_path()?).arg("--list").output()?;
    let applets = String::from_utf8_lossy(&listing.stdout).into_owned();
    let mut image = ImageArchive::new(&BUSYBOX, &["sh"]);
    for (path, mode) in
        [("bin", 0o755), ("etc", 0o755), ("root", 0o700), ("tmp", 0o1777), ("var", 0o755), ("home", 0o755)]
    {
        image.directory(path, mode)?;
    }
    image.file("bin/busybox", 0o755, &program)?;
    for applet in applets.lines().filter(|a| *a != "busybox" && !a.is_empty() && !a.contains('/')) {
        image.link(&format!("bin/{applet}"), "bin/busybox")?;
    }
    image.file(
        "etc/passwd",
        0o644,
        b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n",
    )?;
    image.file("etc/group", 0o644, b"root:x:0:\nnogroup:x:65534:\n")?;
    image.build()
}

/// Loads a `docker save` or OCI archive into containerd, for the pods of Kubernetes.
pub async fn import(engine: &Cri, archive: &[u8], tags: &[&str], snapshotter: Option<&str>) -> Result<()> {
    let mut command = Command::new("ctr");
    command.arg("--address").arg(engine.socket()).args(["--namespace", "k8s.io", "images", "import"]);
    if let Some(snapshotter) = snapshotter {
        command.args(["--snapshotter", snapshotter]);
    }
    let failed = |e: io::Error| Error::Internal(format!("importing an image with ctr: {e}"));
    let mut child = command
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        // Ctrl-C on a terminal is for us to act upon; it would end `ctr` in the middle.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A failure here is the child's: its message says more than "broken pipe".
        let _ = stdin.write_all(archive).await;
    }
    let output = child.wait_with_output().await.map_err(failed)?;
    if !output.status.success() {
        return Err(Error::Internal(format!(
            "ctr images import: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )));
    }
    visible(engine, tags).await
}

/// The CRI plugin learns of an import through containerd's events, a moment later.
async fn visible(engine: &Cri, tags: &[&str]) -> Result<()> {
    for tag in tags {
        let mut attempt = 0;
        while engine.image(tag).await?.is_none() {
            attempt += 1;
            if attempt > 250 {
                return Err(Error::Internal(format!("{tag} was imported but does not appear")));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(())
}

/// Whether this machine has a busybox to make an image from.
pub fn has_busybox() -> bool {
    busybox_path().is_ok()
}
