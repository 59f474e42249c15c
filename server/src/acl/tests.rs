//! Rules: what they allow, how they are told back, and what is refused.

use std::sync::Arc;

use super::*;
use crate::config::Config;
use crate::route::table;

fn users() -> Users {
    let config = Config::default();
    Users::new(Catalogue::new(table().rows()), Arc::clone(config.settings()))
}

fn words(text: &str) -> Vec<&[u8]> {
    text.split(' ').map(str::as_bytes).collect()
}

fn user(rules: &str) -> Arc<User> {
    users().set(b"u", &words(rules)).expect("valid rules")
}

fn line(rules: &str) -> String {
    String::from_utf8(user(rules).line()).expect("printable")
}

fn refusal(rules: &str) -> String {
    users().set(b"u", &words(rules)).expect_err("a wrong rule").to_string()
}

fn may(user: &User, command: &str) -> Result<(), Denied> {
    let args = words(command);
    let entry = table().resolve(&args).expect("a command");
    user.check(entry.id, entry.row, &args)
}

#[test]
fn a_new_user_may_do_nothing_and_default_everything() {
    let users = users();
    let default = users.default_user();
    assert!(default.is_unrestricted() && default.takes_any_password());
    assert_eq!(default.line(), b"user default on nopass sanitize-payload ~* &* +@all");
    assert!(!users.asks_password());
    assert_eq!(line("off"), "user u off sanitize-payload resetchannels -@all");
    assert_eq!(may(&user("on"), "GET k"), Err(Denied::Command));
    assert!(may(&user("on"), "AUTH x").is_ok());
}

#[test]
fn users_are_told_back_so_that_they_can_be_made_again() {
    for (rules, told) in [
        (
            "on nopass ~a ~b &c +get -get",
            "on nopass sanitize-payload ~a ~b resetchannels &c -@all -get",
        ),
        ("+@all -client|kill", "off sanitize-payload resetchannels +@all -client|kill"),
        ("+@all -client +client|id +client", "off sanitize-payload resetchannels +@all +client"),
        (
            "+select|0 +@string -GET",
            "off sanitize-payload resetchannels -@all +select|0 +@string -get",
        ),
        ("%R~r %W~w %rw~x %R~w", "off sanitize-payload %R~r ~w ~x resetchannels -@all"),
        ("~a ~* allchannels", "off sanitize-payload ~* &* -@all"),
        (
            "skip-sanitize-payload (+get ~a) ( +set %W~b )",
            "off skip-sanitize-payload resetchannels -@all (~a resetchannels -@all +get) \
             (%W~b resetchannels -@all +set)",
        ),
        ("~a on (+get) reset", "off sanitize-payload resetchannels -@all"),
    ] {
        assert_eq!(line(rules), format!("user u {told}"), "{rules}");
        assert_eq!(line(told), format!("user u {told}"), "again: {rules}");
    }
}

#[test]
fn what_is_wrong_with_a_rule_is_told() {
    for (rules, text) in [
        ("+nosuch", "'+nosuch': Unknown command or category name in ACL"),
        ("+@nosuch", "'+@nosuch': Unknown command or category name in ACL"),
        ("+get|a|b", "'+get|a|b': Unknown command or category name in ACL"),
        ("+config|nosuch", "'+config|nosuch': Unknown command or category name in ACL"),
        ("+config|get|x", "'+config|get|x': Allowing first-arg of a subcommand is not supported"),
        ("+select|", "'+select|': Syntax error"),
        ("nosuch", "'nosuch': Syntax error"),
        ("%~a", "'%~a': Syntax error"),
        ("%RR~a", "'%RR~a': Syntax error"),
        (
            "~* ~a",
            "'~a': Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and \
             does not have any effect. Try 'resetkeys' to start with an empty list of patterns",
        ),
        ("<x", "'<x': The password you are trying to remove from the user does not exist"),
        (
            "#12",
            "'#12': The password hash must be exactly 64 characters and contain only lowercase \
             hexadecimal characters",
        ),
        ("(nosuch)", "'(nosuch)': Syntax error"),
        (")", "')': Syntax error"),
    ] {
        assert_eq!(refusal(rules), format!("ERR Error in ACL SETUSER modifier {text}"));
    }
    assert_eq!(
        refusal("on (+get"),
        "ERR Unmatched parenthesis in acl selector starting at '(+get'."
    );
    let users = users();
    assert!(users.set(b"a b", &[]).is_err());
    // All of the rules, or none.
    assert!(users.set(b"u", &words("on +nosuch")).is_err());
    assert!(users.get(b"u").is_none());
}

#[test]
fn commands_keys_and_channels_are_looked_at() {
    let who = user("+@all -config|set ~a:* %R~r %W~w resetchannels &c:*");
    let check = |command: &str| may(&who, command);
    for allowed in [
        "GET a:1",
        "SET a:1 x GET",
        "SET w x",
        "GET r",
        "EXISTS w",
        "PUBLISH c:1 x",
        "CONFIG GET x",
        "SUBSCRIBE c:1 c:2",
        "PSUBSCRIBE c:*",
        "UNSUBSCRIBE x",
        "BITFIELD r GET u8 0",
        "EVAL x 3 a b",
        "MGET a:1 r",
        "COPY r w",
        "PING",
    ] {
        assert_eq!(check(allowed), Ok(()), "{allowed}");
    }
    assert_eq!(check("CONFIG SET a b"), Err(Denied::Command));
    assert_eq!(check("GET w"), Err(Denied::Key(1)));
    assert_eq!(check("SET w x GET"), Err(Denied::Key(1)));
    assert_eq!(check("SET r x"), Err(Denied::Key(1)));
    assert_eq!(check("BITFIELD r SET u8 0 1"), Err(Denied::Key(1)));
    assert_eq!(check("MGET a:1 b"), Err(Denied::Key(2)));
    assert_eq!(check("EXISTS z"), Err(Denied::Key(1)));
    assert_eq!(check("EVAL x 1 r"), Err(Denied::Key(3)));
    assert_eq!(check("PUBLISH d x"), Err(Denied::Channel(1)));
    assert_eq!(check("SUBSCRIBE c:1 d"), Err(Denied::Channel(2)));
    assert_eq!(check("PSUBSCRIBE c:1"), Err(Denied::Channel(1)));
}

#[test]
fn selectors_do_not_add_up_and_the_furthest_refusal_is_told() {
    let who = user("+mget ~key (+mget ~key ~other) (+get %R~*)");
    assert_eq!(may(&who, "MGET key other"), Ok(()));
    assert_eq!(may(&who, "MGET other more"), Err(Denied::Key(2)));
    assert_eq!(may(&who, "GET x"), Ok(()));
    assert_eq!(may(&who, "SET key x"), Err(Denied::Command));
    assert!(user("(allkeys allchannels +@all)").is_unrestricted());
    assert!(!user("allkeys +@all (allchannels)").is_unrestricted());
    assert_eq!(may(&user("+select|0"), "SELECT 0"), Ok(()));
    assert_eq!(may(&user("+select|0"), "SELECT 1"), Err(Denied::Command));
}

#[test]
fn passwords_are_known_by_their_hashes() {
    let users = users();
    let user = |rules: &str| users.set(b"u", &words(rules)).expect("valid rules");
    assert!(!user(">one").admits(b"one"), "it is off");
    assert!(user("on").admits(b"one"));
    let both = user(">two");
    assert!(both.admits(b"one") && both.admits(b"two") && !both.admits(b"three"));
    assert!(!user("<one").admits(b"one"));
    assert!(user("nopass").admits(b"anything"));
    assert!(!user(">x").admits(b"anything"));
    assert!(!user("resetpass").admits(b"x"));
    let version = users.version();
    users.set_default_password(b"sesame");
    assert!(users.asks_password() && users.version() > version);
    assert!(users.default_user().admits(b"sesame") && !users.default_user().admits(b""));
    users.set_default_password(b"");
    assert!(!users.asks_password());
    assert!(!users.remove(b"default") && users.remove(b"u") && !users.remove(b"u"));
}

#[test]
fn a_file_is_taken_whole_or_not_at_all() {
    let dir = std::env::temp_dir().join(format!("holdfast-acl-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory");
    let path = dir.join("users.acl");
    let users = users();
    users.set(b"alice", &words("on >pw ~a* +get (+set ~b*)")).expect("valid rules");
    file::save(&users, &path).expect("writable");
    let saved = std::fs::read(&path).expect("readable");
    users.remove(b"alice");
    file::load(&users, &path).expect("valid");
    assert!(users.get(b"alice").is_some_and(|user| user.admits(b"pw")));
    file::save(&users, &path).expect("writable");
    assert_eq!(std::fs::read(&path).expect("readable"), saved);
    for (content, error) in [
        ("user a on\n\nuser a off\n", "WARNING: Duplicate user 'a' found on line 3. "),
        ("hello\n", "PATH:1 should start with user keyword followed by the username. "),
        (
            "user a +nosuch ~* ~b ~c",
            "PATH:1: Error in applying operation '+nosuch': Unknown \
          command or category name in ACL. PATH:1: Adding a pattern after the * pattern (or the \
          'allkeys' flag) is not valid and does not have any effect. Try 'resetkeys' to start \
          with an empty list of patterns. ",
        ),
        ("user a (+get", "PATH:1: Unmatched parenthesis in selector definition."),
    ] {
        std::fs::write(&path, content).expect("writable");
        let told = file::load(&users, &path).expect_err("it is wrong");
        let error = error.replace("PATH", &path.display().to_string());
        assert_eq!(
            told,
            error
                + "WARNING: ACL errors detected, no change to the previously active ACL rules \
                     was performed"
        );
        assert!(users.get(b"alice").is_some());
    }
    std::fs::remove_dir_all(&dir).expect("ours");
}

#[test]
fn rules_that_travel_make_the_same_user_without_its_passwords() {
    for rules in [
        "on >secret ~app:* %R~read:* +@all -flushall &news:*",
        "~* allchannels +get +config|get -@dangerous",
        "(~a:* +set) (%W~b:* &c +@write -del) resetchannels",
        "on nopass +@all ~* &*",
        "off",
    ] {
        let there = user(rules);
        let told = there.rules();
        assert!(!told.windows(1).any(|byte| byte == b"#"), "{rules}");
        let here = User::from_rules(&told, users().catalogue()).expect("rules that were told");
        assert_eq!(here.rules(), told, "{rules}");
        for command in
            ["get app:1", "set a:1 v", "set b:1 v", "del b:1", "publish news:1 m", "flushall"]
        {
            assert_eq!(may(&here, command), may(&there, command), "{rules}: {command}");
        }
    }
    assert!(User::from_rules(b"u +nosuchcommand", users().catalogue()).is_none());
}
