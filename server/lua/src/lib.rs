//! Builds Lua 5.1.5, whose source with our patches lies beside this file, for `mlua-sys`.
//!
//! It has the interface of the crate `lua-src` that `mlua-sys` asks for, as far as Lua 5.1 needs it,
//! and is put in its place by `[patch.crates-io]`. README.md lists the patches.

use std::path::{Path, PathBuf};
use std::{env, fs};

/// The versions of Lua that can be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// Lua 5.1.5.
    Lua51,
}
pub use self::Version::Lua51;

/// The name under which the library is linked.
const LIB: &str = "lua5.1";

/// Builds the library; called by a build script.
#[derive(Debug, Default)]
pub struct Build;

impl Build {
    /// A build with the settings of the calling build script.
    #[must_use]
    pub fn new() -> Self {
        Self
    }

    /// Builds the library in the calling build script's `OUT_DIR`.
    ///
    /// # Panics
    /// When a file cannot be read or written, or the compiler fails.
    #[must_use]
    pub fn build(&self, version: Version) -> Artifacts {
        let Version::Lua51 = version;
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("lua-5.1.5");
        let out = PathBuf::from(env::var_os("OUT_DIR").expect("OUT_DIR is set by cargo"));
        let (lib_dir, include_dir) = (out.join("lib"), out.join("include"));
        fs::create_dir_all(&include_dir).expect("OUT_DIR can be written");
        println!("cargo:rerun-if-changed={}", source.display());
        let mut config = cc::Build::new();
        let files = fs::read_dir(&source).expect("the source is there");
        for file in files.filter_map(Result::ok).map(|file| file.path()) {
            if file.extension().is_some_and(|extension| extension == "c") {
                config.file(file);
            }
        }
        config
            .cargo_metadata(false)
            .warnings(false)
            .include(&source)
            .flag_if_supported("-fno-common")
            .flag_if_supported("-fstack-protector-strong");
        if env::var("TARGET").is_ok_and(|target| target.contains("linux")) {
            config.define("LUA_USE_LINUX", None);
        }
        // Checked string functions need an optimising compiler.
        if env::var("OPT_LEVEL").is_ok_and(|level| level != "0") {
            config.define("_FORTIFY_SOURCE", "2");
        }
        config.out_dir(&lib_dir).compile(LIB);
        for name in ["lauxlib.h", "lua.h", "luaconf.h", "lualib.h"] {
            fs::copy(source.join(name), include_dir.join(name)).expect("OUT_DIR can be written");
        }
        Artifacts { include_dir, lib_dir, libs: vec![LIB.to_owned()] }
    }
}

/// What a build made.
#[derive(Debug, Clone)]
pub struct Artifacts {
    include_dir: PathBuf,
    lib_dir: PathBuf,
    libs: Vec<String>,
}

impl Artifacts {
    /// The directory of the headers.
    #[must_use]
    pub fn include_dir(&self) -> &Path {
        &self.include_dir
    }

    /// The directory of the library.
    #[must_use]
    pub fn lib_dir(&self) -> &Path {
        &self.lib_dir
    }

    /// The libraries' names.
    #[must_use]
    pub fn libs(&self) -> &[String] {
        &self.libs
    }

    /// Tells cargo how to link the library.
    pub fn print_cargo_metadata(&self) {
        println!("cargo:rustc-link-search=native={}", self.lib_dir.display());
        println!("cargo:rustc-link-lib=static={LIB}");
        println!("cargo:include={}", self.include_dir.display());
        println!("cargo:lib={}", self.lib_dir.display());
    }
}
