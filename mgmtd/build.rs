//! Says where the built web UI is. The directory is made where it is missing (it is not in version control), so that the
//! crate compiles without the UI, and is compiled anew as soon as the UI was built.

use std::{env, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dist = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../webui/dist");
    fs::create_dir_all(&dist)?;
    println!("cargo:rerun-if-changed={}", dist.display());
    println!("cargo:rustc-env=LQ_WEBUI_DIST={}", dist.canonicalize()?.display());
    Ok(())
}
