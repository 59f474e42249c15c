//! The configuration as a whole: command lines, files, CONFIG GET and SET. Error texts were
//! taken from a Redis 7.0.15.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use holdfast_engine::reply::Reply;
use proptest::prelude::*;

use super::commands::{get, set};
use super::settings::{ClientClass, EvictionPolicy, Exposure, Origin};
use super::special::EventFlags;
use super::value::Lines;
use super::*;

/// A file of this test alone, below the build directory, so that `cargo clean` removes it.
pub(super) fn scratch(name: &str, content: &str) -> PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let build = std::env::current_exe().expect("a path");
    let own = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
    let directory = build.with_file_name("config-scratch").join(own);
    std::fs::create_dir_all(&directory).expect("a temporary directory");
    let path = directory.join(name);
    std::fs::write(&path, content).expect("a temporary file");
    path
}

fn request(args: &[&str]) -> Result<Request, ConfigError> {
    Config::from_args(std::iter::once("holdfast-server").chain(args.iter().copied()))
}

pub(super) fn config_of(args: &[&str]) -> Config {
    match request(args) {
        Ok(Request::Serve(config)) => *config,
        other => panic!("{args:?}: {other:?}"),
    }
}

fn value(config: &Config, name: &str) -> String {
    String::from_utf8(config.get(name).expect("known")).expect("utf-8")
}

fn set_text(config: &Config, args: &[&str]) -> String {
    let args: Vec<&[u8]> = args.iter().map(|s| s.as_bytes()).collect();
    match set(config, &args, Origin::Remote) {
        Ok(reply) => format!("{reply:?}"),
        Err(error) => error.text().to_owned(),
    }
}

fn got(config: &Config, patterns: &[&str]) -> Vec<(String, String)> {
    let patterns: Vec<&[u8]> = patterns.iter().map(|s| s.as_bytes()).collect();
    let Ok(Reply::Map(pairs)) = get(config, &patterns) else { panic!("not a map") };
    let text = |reply| match reply {
        Reply::Bulk(blob) => String::from_utf8_lossy(&blob).into_owned(),
        other => panic!("{other:?}"),
    };
    pairs.into_iter().map(|(name, value)| (text(name), text(value))).collect()
}

#[test]
fn every_row_is_sound() {
    let mut names = std::collections::BTreeSet::new();
    for row in rows() {
        assert!(names.insert(row.name), "{} twice", row.name);
        assert!(row.alias.is_none_or(|alias| names.insert(alias)), "{} twice", row.name);
        let value = load::default_of(row);
        if matches!(row.kind, directive::Kind::Directory) {
            continue;
        }
        // The default is valid, and printed as it is written in the table but for units.
        let printed = row.print(&value);
        let pieces: Vec<&[u8]> = match row.kind.takes_several() {
            true => printed.split(|b| *b == b' ').collect(),
            false => vec![&printed],
        };
        assert_eq!(row.read(&pieces, &value, Lines::Replace).as_ref(), Ok(&value), "{}", row.name);
        if row.name != "lua-memory-limit" {
            assert_eq!(String::from_utf8_lossy(&printed), row.default, "{}", row.name);
        }
    }
}

#[test]
fn every_getter_has_its_row() {
    for name in Settings::NAMES {
        let index = find(name.as_bytes()).unwrap_or_else(|| panic!("no row for {name}"));
        assert_eq!(rows()[index].name, *name, "getters go by the first name");
        assert!(rows()[index].class == directive::Class::Active, "{name}");
    }
}

#[test]
fn options_override_the_file_and_the_last_one_wins() {
    let path = scratch("a.conf", "# c\nport 1\n  maxmemory 100mb\nbind 10.0.0.1 -::1\n\n");
    let config = config_of(&[
        path.to_str().expect("utf-8"),
        "--port",
        "2",
        "--port",
        "3",
        "--MaxClients",
        "7",
    ]);
    assert_eq!(config.settings().port(), 3);
    assert_eq!(config.settings().maxclients(), 7);
    assert_eq!(Config::default().settings().maxclients(), 10_000);
    assert_eq!(config.settings().maxmemory(), 100 << 20);
    assert_eq!(*config.settings().bind(), ["10.0.0.1", "-::1"]);
    assert_eq!(config.path(), Some(path.as_path()));
}

#[test]
fn options_take_several_arguments_in_each_way_scripts_write_them() {
    for args in [
        &["--save", "900", "1", "300", "10"][..],
        &["--save", "900 1 300 10"],
        &["--save 900 1", "--save", "300", "10"],
        &["--save", "900 1", "--save", "300 10", "--port", "5"],
    ] {
        assert_eq!(value(&config_of(args), "save"), "900 1 300 10", "{args:?}");
    }
    for args in
        [&["--save", "", "--port", "5"][..], &["--save", "--port", "5"], &["--port", "5", "--save"]]
    {
        let config = config_of(args);
        assert_eq!((value(&config, "save"), config.settings().port()), (String::new(), 5));
    }
    assert_eq!(&*config_of(&["--requirepass", "--x"]).settings().requirepass(), b"--x");
    let limits = config_of(&["--client-output-buffer-limit", "pubsub", "1kb", "2", "3"]);
    let limit = limits.settings().output_buffer_limit(ClientClass::PubSub);
    assert_eq!((limit.hard_bytes, limit.soft_bytes, limit.soft_seconds), (1024, 2, 3));
}

#[test]
fn bad_lines_are_named_as_redis_names_them() {
    for (content, line, reason) in [
        ("port 1\nfoo bar\n", 2, "Bad directive or wrong number of arguments"),
        ("maxclients 0", 1, "argument must be between 1 and 4294967295 inclusive"),
        ("port\n", 1, "wrong number of arguments"),
        ("requirepass \"abc", 1, "Unbalanced quotes in configuration line"),
        ("rename-command get", 1, "Bad directive or wrong number of arguments"),
        ("save a b", 1, "Invalid save parameters"),
        ("maxmemori 5", 1, "(did you mean 'maxmemory'?)"),
    ] {
        let path = scratch("bad.conf", content);
        let error = request(&[path.to_str().expect("utf-8")]).expect_err(content).to_string();
        assert!(error.starts_with("\n*** FATAL CONFIG FILE ERROR (Holdfast "), "{error}");
        let place = format!("Reading the configuration file, at line {line} of ");
        assert!(error.contains(&place), "{error}");
        assert!(error.contains("\n>>> '"), "{error}");
        assert!(error.ends_with(reason), "{error}");
    }
    let error = request(&["--foo", "bar"]).expect_err("unknown").to_string();
    assert!(error.contains("options of the command line\n>>> '--foo bar'\nBad dir"), "{error}");
    let error = request(&["/no/such.conf"]).expect_err("missing").to_string();
    assert_eq!(
        error,
        "Fatal error, can't open config file '/no/such.conf': No such file or directory"
    );
    let path = scratch("quotes.conf", "requirepass \"secret");
    let error = request(&[path.to_str().expect("utf-8")]).expect_err("quotes").to_string();
    assert!(!error.contains("secret"), "{error}");
    let error = request(&["--masterauth", "secret", "x"]).expect_err("two").to_string();
    assert!(!error.contains("secret"), "{error}");
}

#[test]
fn what_would_mislead_stops_the_start_unless_taken_back() {
    for args in [
        &["--cluster-enabled", "yes"][..],
        &["--replicaof", "localhost", "1"],
        &["--aclfile", "x", "--user", "x", "on"],
        &["--loadmodule", "x"],
        &["--user", "x", "on", "--user", "x", "off"],
        &["--daemonize", "yes"],
        &["--tls-port", "6380"],
    ] {
        assert!(request(args).is_err(), "{args:?}");
    }
    assert!(request(&["--daemonize", "yes", "--daemonize", "no"]).is_ok());
    assert!(request(&["--replicaof", "no", "one"]).is_ok());
}

#[test]
fn inert_directives_warn_only_when_they_ask_for_something() {
    let config =
        config_of(&["--io-threads", "4", "--rdbcompression", "no", "--list-compress-depth", "1"]);
    let warnings = config.warnings();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(
        warnings[1].contains("'list-compress-depth' has no effect here: lists"),
        "{warnings:?}"
    );
}

#[test]
fn includes_are_read_where_they_stand() {
    let sub = scratch("b1.inc", "port 5\n");
    let directory = sub.parent().expect("a directory");
    std::fs::write(directory.join("a2.inc"), "port 4\nhz 30\n").expect("writable");
    let main = |pattern: &str| {
        let content = format!("timeout 1\ninclude {}/{pattern}\ntimeout 2\n", directory.display());
        scratch("main.conf", &content)
    };
    let path = main("*.inc");
    let settings = config_of(&[path.to_str().expect("utf-8")]);
    let settings = settings.settings();
    assert_eq!((settings.port(), settings.hz(), settings.timeout_s()), (5, 30, 2));
    assert!(request(&[main("*.none").to_str().expect("utf-8")]).is_ok());
    assert!(request(&[main("missing").to_str().expect("utf-8")]).is_err());
    let own = scratch("self.conf", "");
    std::fs::write(&own, format!("include {}", own.display())).expect("writable");
    let error = request(&[own.to_str().expect("utf-8")]).expect_err("endless").to_string();
    assert!(error.contains("nested too deep"), "{error}");
}

#[test]
fn help_version_and_check_print() {
    for (args, part) in [
        (&["--help"][..], "holdfast-server --port 7777"),
        (&["-h"], "maxmemory"),
        (&["--version"], "Holdfast server v="),
        (&["-v"], "7.2.4"),
    ] {
        let Ok(Request::Print(text)) = request(args) else { panic!("{args:?}") };
        assert!(text.contains(part), "{text}");
    }
    let Ok(Request::Check(_, text)) = request(&["--check", "--hz", "20"]) else {
        panic!("--check")
    };
    assert!(text.contains("is valid"), "{text}");
    assert!(request(&["--check", "--hz", "x"]).is_err());
    assert!(request(&["--port", "1", "--", "x"]).is_err());
}

#[test]
fn get_matches_globs_in_any_case_and_names_aliases() {
    let config = Config::default();
    let names = |patterns: &[&str]| -> Vec<String> {
        got(&config, patterns).into_iter().map(|(name, _)| name).collect()
    };
    assert_eq!(names(&["MAXMEMORY"]), ["MAXMEMORY"]);
    assert_eq!(
        names(&["hash-max-*entries"]),
        ["hash-max-listpack-entries", "hash-max-ziplist-entries"]
    );
    assert_eq!(names(&["MaxMem*ory", "maxmemory"]), ["maxmemory"]);
    assert!(names(&["nosuch"]).is_empty());
    assert!(!names(&["*"]).contains(&"watchdog-period".to_owned()));
    assert_eq!(names(&["watchdog-period"]), ["watchdog-period"]);
    let error = get(&config, &[]).expect_err("no pattern");
    assert_eq!(error.text(), "ERR wrong number of arguments for 'config|get' command");
}

#[test]
fn set_answers_as_redis() {
    let config = Config::default();
    let failed = |name: &str, reason: &str| {
        format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}")
    };
    let policies = "argument(s) must be one of the following: volatile-lru, volatile-lfu, \
        volatile-random, volatile-ttl, allkeys-lru, allkeys-lfu, allkeys-random, noeviction";
    for (args, expected) in [
        (&["hz"][..], "ERR wrong number of arguments for 'config|set' command".to_owned()),
        (&["hz", "10", "20"], "ERR syntax error".into()),
        (
            &["nosuch", "1", "hz", "5"],
            "ERR Unknown option or number of arguments for CONFIG SET - 'nosuch'".into(),
        ),
        (
            &["maxclients", "0"],
            failed("maxclients", "argument must be between 1 and 4294967295 inclusive"),
        ),
        (
            &["MAXCLIENTS", "0"],
            failed("maxclients", "argument must be between 1 and 4294967295 inclusive"),
        ),
        (&["maxmemory", "abc"], failed("maxmemory", "argument must be a memory value")),
        (&["maxmemory", "-1"], failed("maxmemory", "argument must be a memory value")),
        (&["maxmemory", "1.5gb"], failed("maxmemory", "argument must be a memory value")),
        (&["maxmemory-policy", "foo"], failed("maxmemory-policy", policies)),
        (
            &["lazyfree-lazy-expire", "maybe"],
            failed("lazyfree-lazy-expire", "argument must be 'yes' or 'no'"),
        ),
        (&["maxclients", "100", "maxclients", "200"], failed("maxclients", "duplicate parameter")),
        (&["hz", "abc"], failed("hz", "argument couldn't be parsed into an integer")),
        (&["daemonize", "yes"], failed("daemonize", "can't set immutable config")),
        (&["unixsocketperm", "777"], failed("unixsocketperm", "can't set immutable config")),
        (&["dir", "/tmp"], failed("dir", "can't set protected config")),
        (&["save", "a b"], failed("save", "Invalid save parameters")),
        (
            &["notify-keyspace-events", "ZZ"],
            failed(
                "notify-keyspace-events",
                "Invalid event class character. Use 'Ag$lshzxeKEtmdn'.",
            ),
        ),
        (
            &["client-output-buffer-limit", "foo 1 2 3"],
            failed(
                "client-output-buffer-limit",
                "Invalid client class specified in buffer limit configuration.",
            ),
        ),
        (
            &["client-output-buffer-limit", "normal 1mb 2mb"],
            failed(
                "client-output-buffer-limit",
                "Wrong number of arguments in buffer limit configuration.",
            ),
        ),
        (
            &["oom-score-adj-values", "1 2"],
            failed("oom-score-adj-values", "wrong number of arguments"),
        ),
        (
            &["oom-score-adj-values", "1 2 x"],
            failed(
                "oom-score-adj-values",
                "Invalid oom-score-adj-values, elements must be between -2000 and 2000.",
            ),
        ),
        (
            &["latency-tracking-info-percentiles", "50 101"],
            failed(
                "latency-tracking-info-percentiles",
                "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]",
            ),
        ),
        (
            &["maxmemory-clients", "150%"],
            failed("maxmemory-clients", "percentage argument must be less or equal to 100"),
        ),
        (
            &["maxmemory-clients", "-5"],
            failed("maxmemory-clients", "argument must be a memory or percent value"),
        ),
        (
            &["proc-title-template", "{x}"],
            failed(
                "proc-title-template",
                "template format is invalid or contains unknown variables",
            ),
        ),
        (
            &["shutdown-on-sigint", "save foo"],
            failed(
                "shutdown-on-sigint",
                "argument(s) must be one of the following: default, save, nosave, now, force",
            ),
        ),
        (
            &["rename-command", "a b"],
            "ERR Unknown option or number of arguments for CONFIG SET - 'rename-command'".into(),
        ),
        (&["hash-max-ziplist-entries", "5", "hash-max-listpack-entries", "6"], "Ok".into()),
        (&["maxmemory", "99999999999999999999"], "Ok".into()),
    ] {
        assert_eq!(set_text(&config, args), expected, "{args:?}");
    }
    assert_eq!(value(&config, "hash-max-ziplist-entries"), "6");
    assert_eq!(value(&config, "maxmemory"), "18446744073709551615");
}

#[test]
fn values_are_printed_as_redis_prints_them() {
    let config = Config::default();
    for (name, set_to, printed) in [
        ("maxmemory", "1Gb", "1073741824"),
        ("maxmemory-clients", "10%", "10%"),
        ("notify-keyspace-events", "KEA", "AKE"),
        ("notify-keyspace-events", "KElg", "glKE"),
        ("notify-keyspace-events", "El$gshzxetd", "AE"),
        ("notify-keyspace-events", "dm", "dm"),
        ("latency-tracking-info-percentiles", "50 99.9 100 12.345", "50 99.9 100 12.345"),
        ("latency-tracking-info-percentiles", "", ""),
        ("shutdown-on-sigint", "save force", "save force"),
        ("oom-score-adj", "relative", "yes"),
        ("hz", "5000", "500"),
        ("save", "900 1 300 10", "900 1 300 10"),
        (
            "client-output-buffer-limit",
            "normal 1mb 2mb 60 replica 1 2 3",
            "normal 1048576 2097152 60 slave 1 2 3 pubsub 33554432 8388608 60",
        ),
        ("slowlog-log-slower-than", "-1", "-1"),
    ] {
        assert_eq!(set_text(&config, &[name, set_to]), "Ok", "{name}");
        assert_eq!(value(&config, name), printed, "{name}");
    }
    let settings = config.settings();
    assert_eq!(settings.slowlog_log_slower_than_us(), -1);
    assert!(settings.notify_keyspace_events().contains(EventFlags::KEY_MISS));
    assert!(settings.shutdown_on_sigint().save && settings.shutdown_on_sigint().force);
    assert_eq!(settings.maxmemory_policy(), EvictionPolicy::NoEviction);
    assert_eq!(settings.maxmemory_policy().name(), value(&config, "maxmemory-policy"));
    assert_eq!(settings.enable_debug_command(), Exposure::No);
}

#[test]
fn set_is_all_or_nothing() {
    let config = Config::default();
    assert!(set_text(&config, &["timeout", "5", "maxmemory", "x"]).starts_with("ERR"));
    assert_eq!(config.settings().timeout_s(), 0);
    let calls = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let seen = Arc::clone(&calls);
    config.on_change(&["timeout", "hz"], move |settings| {
        seen.lock().push((settings.timeout_s(), settings.hz()));
        Ok(())
    });
    config.on_change(&["maxclients"], |settings| match settings.maxclients() {
        13 => Err("an unlucky number".into()),
        _ => Ok(()),
    });
    let text = set_text(&config, &["timeout", "5", "hz", "20", "maxclients", "13"]);
    assert!(text.ends_with("'maxclients') - an unlucky number"), "{text}");
    // Called with the new, then again with the old.
    assert_eq!(*calls.lock(), [(5, 20), (0, 10)]);
    assert_eq!(value(&config, "timeout"), "0");
    assert_eq!(set_text(&config, &["timeout", "6", "maxclients", "14"]), "Ok");
    assert_eq!(set_text(&config, &["timeout", "6"]), "Ok");
    assert_eq!(calls.lock().len(), 3, "no call where nothing changes");
}

#[test]
fn what_needs_a_hook_is_refused_without_one() {
    let config = Config::default();
    assert!(set_text(&config, &["port", "7"]).contains("cannot be changed"));
    config.on_change(&["port"], |_| Ok(()));
    assert_eq!(set_text(&config, &["port", "7"]), "Ok");
    assert_eq!(config.settings().port(), 7);
}

#[test]
fn protected_directives_open_by_their_own_switch() {
    let config = config_of(&["--enable-protected-configs", "local"]);
    assert!(set_text(&config, &["dbfilename", "x.rdb"]).contains("can't set protected"));
    assert!(set(&config, &[b"dbfilename", b"x.rdb"], Origin::Local).is_ok());
    let error = set(&config, &[b"dbfilename", b"a/b"], Origin::Local).expect_err("a path");
    assert!(error.text().contains("dbfilename can't be a path, just a filename"));
}

#[test]
fn secrets_are_known() {
    assert!(commands::is_sensitive(b"RequirePass"));
    assert!(!commands::is_sensitive(b"port"));
}

/// The sample at the root: as it is, and with every `#directive` of it in force.
#[test]
fn the_sample_file_is_valid() {
    let sample = include_str!("../../../holdfast.conf");
    let all: String = sample
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase()) => rest,
            _ => line,
        })
        .flat_map(|line| [line, "\n"])
        .collect();
    assert_ne!(all, sample);
    for content in [sample, &all] {
        let path = scratch("holdfast.conf", content);
        let config = config_of(&[path.to_str().expect("utf-8")]);
        assert!(config.warnings().is_empty(), "{:?}", config.warnings());
    }
}

/// All names of a Redis 7.2 that is built with TLS.
#[test]
fn the_names_of_redis_are_all_there() {
    let names = include_str!("names-7.2.txt");
    let missing: Vec<_> =
        names.split_whitespace().filter(|name| find(name.as_bytes()).is_none()).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

proptest! {
    #[test]
    fn no_value_panics_and_what_is_taken_is_printed_back(
        index in 0..rows().len(), text in "[ -~]{0,20}", number: i64,
    ) {
        let row = rows()[index];
        let before = load::default_of(row);
        for word in [text, number.to_string(), format!("{}kb", number.unsigned_abs())] {
            let words = words::split(word.as_bytes()).unwrap_or_default();
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            let Ok(value) = row.read(&words, &before, Lines::Replace) else { continue };
            let printed = row.print(&value);
            let pieces: Vec<&[u8]> = match row.kind.takes_several() {
                true => printed.split(|b| *b == b' ').collect(),
                false => vec![&printed],
            };
            prop_assert_eq!(row.read(&pieces, &value, Lines::Replace), Ok(value), "{}", row.name);
        }
    }
}
