//! Scripts against a small caller, with expectations fixed from Redis's answers.

use std::collections::BTreeMap;

use super::{Caller, Interrupt, Limits, Sha, Vm};
use crate::{BulkList, CommandError, Reply};

/// A caller with a string table and a few commands that answer every kind of reply.
pub(super) struct Fake {
    values: BTreeMap<Vec<u8>, Vec<u8>>,
    seed: u64,
    instructions_max: u64,
    pub(super) logged: Vec<(i64, Vec<u8>)>,
}

impl Default for Fake {
    fn default() -> Self {
        Self { values: BTreeMap::new(), seed: 7, instructions_max: 5_000_000, logged: Vec::new() }
    }
}

impl Caller for Fake {
    fn call(&mut self, args: &[&[u8]]) -> Reply {
        match args {
            [b"get", key] => Reply::bulk_or_nil(self.values.get(*key).map(Vec::as_slice)),
            [b"set", key, value] => {
                self.values.insert(key.to_vec(), value.to_vec());
                Reply::Ok
            }
            [b"del", key] => Reply::flag(self.values.remove(*key).is_some()),
            [b"echo", text] => Reply::bulk(text),
            [b"list"] => Reply::Bulks([&b"a"[..], b"b"].into_iter().collect()),
            [b"mixed"] => Reply::Array(vec![Reply::Integer(1), Reply::Nil, Reply::bulk(b"x")]),
            [b"map"] => Reply::Map(vec![(Reply::bulk(b"k"), Reply::Integer(1))]),
            [b"bulkmap"] => Reply::BulkMap([&b"k"[..], b"v"].into_iter().collect()),
            [b"set!"] => Reply::BulkSet([&b"m"[..]].into_iter().collect()),
            [b"double"] => Reply::Double(1.5),
            [b"bool"] => Reply::Bool(true),
            [b"big"] => Reply::BigNumber(b"123"[..].into()),
            [b"text"] => Reply::Verbatim(b"abc"[..].into()),
            [b"pairs"] => Reply::Pairs(vec![(Reply::bulk(b"m"), Reply::Double(2.0))]),
            [b"nils"] => {
                let mut list = BulkList::default();
                list.push_nil();
                list.push(b"x");
                Reply::Bulks(list)
            }
            [b"wrongtype"] => Reply::error(CommandError::WRONG_TYPE),
            [b"panic"] => std::panic::panic_any("caller"),
            _ => Reply::error(CommandError::known("ERR Unknown Redis command called from script")),
        }
    }
    fn log(&mut self, level: i64, text: &[u8]) {
        assert_ne!(text, b"panic");
        self.logged.push((level, text.to_vec()));
    }
    fn seed(&self) -> u64 {
        self.seed
    }
    fn interrupt(&mut self, instructions: u64) -> Interrupt {
        if instructions >= self.instructions_max {
            Interrupt::Kill(CommandError::known("ERR too many instructions"))
        } else {
            Interrupt::Continue
        }
    }
}

pub(super) fn vm() -> Vm {
    Vm::new(Limits { memory_bytes_max: 32 << 20, ..Limits::default() })
}

/// A reply in one line: like redis-cli, but unambiguous.
pub(super) fn show(reply: &Reply) -> String {
    let list = |items: &mut dyn Iterator<Item = String>| items.collect::<Vec<_>>().join(" ");
    match reply {
        Reply::Ok => "+OK".to_owned(),
        Reply::Simple(text) => format!("+{text}"),
        Reply::Nil | Reply::NilArray => "nil".to_owned(),
        Reply::Integer(n) => format!(":{n}"),
        Reply::Double(n) => format!(",{n}"),
        Reply::Bool(yes) => format!("#{yes}"),
        Reply::Bulk(text) => format!("\"{}\"", text.escape_ascii()),
        Reply::Verbatim(text) => format!("txt:\"{}\"", text.escape_ascii()),
        Reply::BigNumber(text) => format!("({}", text.escape_ascii()),
        Reply::Array(items) => format!("[{}]", list(&mut items.iter().map(show))),
        Reply::Set(items) => format!("~[{}]", list(&mut items.iter().map(show))),
        Reply::Map(pairs) => {
            let pair = |(k, v): &(Reply, Reply)| format!("{}={}", show(k), show(v));
            format!("%[{}]", list(&mut pairs.iter().map(pair)))
        }
        Reply::Error(error) => format!("-{error}"),
        other => format!("{other:?}"),
    }
}

fn eval_in(vm: &Vm, caller: &mut Fake, body: &str) -> String {
    let sha = Sha::of(body.as_bytes());
    match vm.run(&sha, body.as_bytes(), &[b"key"], &[b"value", b"2"], caller) {
        Ok(reply) => show(&reply),
        Err(error) => format!("-{}", error.text().replace(sha.as_str(), "SHA")),
    }
}

pub(super) fn eval(body: &str) -> String {
    eval_in(&vm(), &mut Fake::default(), body)
}

/// Each script answers what stands beside it.
pub(super) fn check(table: &[(&str, &str)]) {
    let vm = vm();
    for (body, expected) in table {
        assert_eq!(eval_in(&vm, &mut Fake::default(), body), *expected, "{body}");
    }
}

#[test]
fn values_become_replies() {
    check(&[
        ("return 1", ":1"),
        ("return -1.9", ":-1"),
        ("return 1/0", ":-9223372036854775808"),
        ("return 'x'", "\"x\""),
        ("return true", ":1"),
        ("return false", "nil"),
        ("return nil", "nil"),
        ("return", "nil"),
        (
            "return print",
            "-ERR user_script:1: Script attempted to access nonexistent global variable 'print' script: SHA, on @user_script:1.",
        ),
        ("return function() end", "nil"),
        ("return {1,'a',{2},false,true}", "[:1 \"a\" [:2] nil :1]"),
        ("return {1,nil,3}", "[:1]"),
        ("return {ok='OK'}", "+OK"),
        ("return {ok='fine\\r\\n'}", "+fine  "),
        ("return {err='MY bad'}", "-MY bad"),
        ("return {1,{err='E x'}}", "[:1 -E x]"),
        ("return {double=3.5}", ",3.5"),
        ("return {big_number='12'}", "(12"),
        ("return {verbatim_string={string='abc',format='txt'}}", "txt:\"abc\""),
        ("return {map={a=1}}", "%[\"a\"=:1]"),
        ("return {map={[1]=2}}", "%[:1=:2]"),
        ("return {set={a=true}}", "~[\"a\"]"),
        ("return {map=1}", "[]"),
        ("return {KEYS[1],ARGV[1],ARGV[2],#KEYS,#ARGV}", "[\"key\" \"value\" \"2\" :1 :2]"),
        ("redis.setresp(3) return {true,false}", "[#true #false]"),
        ("return setmetatable({},{__index=function() return 1 end})", "[]"),
    ]);
}

#[test]
fn replies_become_values() {
    check(&[
        ("return redis.call('set','a','b')", "+OK"),
        ("return redis.call('set','a','b').ok", "\"OK\""),
        ("return tostring(redis.call('get','none'))", "\"false\""),
        ("redis.setresp(3) return tostring(redis.call('get','none'))", "\"nil\""),
        ("return redis.call('list')", "[\"a\" \"b\"]"),
        ("return redis.call('mixed')", "[:1 nil \"x\"]"),
        ("return redis.call('nils')", "[nil \"x\"]"),
        ("return redis.call('map')", "[\"k\" :1]"),
        ("return redis.call('bulkmap')", "[\"k\" \"v\"]"),
        ("return redis.call('pairs')", "[\"m\" \"2\"]"),
        ("return redis.call('double')", "\"1.5\""),
        ("return redis.call('bool')", ":1"),
        ("redis.setresp(3) return redis.call('map')", "%[\"k\"=:1]"),
        ("redis.setresp(3) return redis.call('bulkmap').map.k", "\"v\""),
        ("redis.setresp(3) return redis.call('set!').set.m", "#true"),
        ("redis.setresp(3) return redis.call('double')", ",1.5"),
        ("redis.setresp(3) return redis.call('bool')", "#true"),
        ("redis.setresp(3) return redis.call('big')", "(123"),
        ("redis.setresp(3) return redis.call('text').verbatim_string.format", "\"txt\""),
        ("redis.setresp(3) return redis.call('pairs')", "[[\"m\" ,2]]"),
        ("return redis.call('echo', 3.1)", "\"3.1\""),
        ("return redis.call('echo', 1e15)", "\"1000000000000000\""),
    ]);
}

#[test]
fn errors_carry_the_script_and_the_line() {
    check(&[
        (
            "return foo",
            "-ERR user_script:1: Script attempted to access nonexistent global variable 'foo' script: SHA, on @user_script:1.",
        ),
        (
            "\n\nfoo = 1",
            "-ERR user_script:3: Attempt to modify a readonly table script: SHA, on @user_script:3.",
        ),
        (
            "return redis.call('nope')",
            "-ERR Unknown Redis command called from script script: SHA, on @user_script:1.",
        ),
        ("return redis.pcall('nope')", "-ERR Unknown Redis command called from script"),
        (
            "return redis.pcall('wrongtype').err",
            "\"WRONGTYPE Operation against a key holding the wrong kind of value\"",
        ),
        (
            "local ok, e = pcall(redis.call, 'wrongtype') return e",
            "\"WRONGTYPE Operation against a key holding the wrong kind of value\"",
        ),
        (
            "return redis.call()",
            "-ERR Please specify at least one argument for this redis.call() call script: SHA, on @user_script:1.",
        ),
        (
            "return redis.call({})",
            "-ERR Lua redis lib command arguments must be strings or integers script: SHA, on @user_script:1.",
        ),
        ("error('x')", "-ERR user_script:1: x script: SHA, on @user_script:1."),
        ("error({err='My x'})", "-My x script: SHA, on @user_script:1."),
        ("error()", "-ERR nil script: SHA, on @user_script:1."),
        ("error({1})", "-ERR unknown error script: SHA, on @user_script:1."),
        ("x x", "-ERR Error compiling script (new function): user_script:1: '=' expected near 'x'"),
        ("return redis.error_reply('abc')", "-ERR abc"),
        ("return redis.error_reply('-abc def')", "-abc def"),
        ("return redis.error_reply('MY err')", "-MY err"),
        ("return redis.error_reply('')", "-ERR "),
        ("return redis.error_reply('a','b')", "-ERR wrong number or type of arguments"),
        ("return redis.status_reply('FINE')", "+FINE"),
        ("redis.setresp(4)", "-ERR RESP version must be 2 or 3. script: SHA, on @user_script:1."),
        (
            "redis.log(1)",
            "-ERR redis.log() requires two arguments or more. script: SHA, on @user_script:1.",
        ),
        (
            "\nlocal t={} t.x.y=1",
            "-ERR user_script:2: attempt to index field 'x' (a nil value) script: SHA, on @user_script:2.",
        ),
        (
            "return table.insert(nil,1)",
            "-ERR user_script:1: bad argument #1 to 'insert' (table expected, got nil) script: SHA, on @user_script:1.",
        ),
        (
            "return cjson.decode('[1')",
            "-ERR user_script:1: Expected comma or array end but found T_END at character 3 script: SHA, on @user_script:1.",
        ),
        ("#!lua flags=x\nreturn 1", "-ERR Unexpected flag in script shebang: x"),
        (
            "#!lua\nreturn foo",
            "-ERR user_script:2: Script attempted to access nonexistent global variable 'foo' script: SHA, on @user_script:2.",
        ),
    ]);
}

#[test]
fn nothing_shared_can_be_changed() {
    for body in [
        "foo = 1",
        "redis = 1",
        "KEYS = {}",
        "redis.call = 1",
        "string.x = 1",
        "math.random = nil",
        "cjson.x = 1",
        "_G.x = 1",
        "rawset(_G, 'x', 1)",
        "rawset(redis, 'x', 1)",
        "setmetatable(_G, {})",
        "setmetatable(string, {})",
        "getmetatable('').__index = 1",
        "getmetatable(_G).__index = 1",
        "rawset(getmetatable(''), '__index', 1)",
        "table.insert(redis, 1)",
        "setmetatable(getmetatable(''), {})",
    ] {
        let answer = eval(body);
        assert!(answer.contains("Attempt to modify a readonly table"), "{body}: {answer}");
    }
    check(&[
        ("return type(getmetatable(_G)) .. tostring(getmetatable(redis))", "\"tablefalse\""),
        ("return getmetatable('').__index == string", ":1"),
        ("return ('x'):rep(3)", "\"xxx\""),
        ("local n = 0 for k, v in pairs(redis) do n = n + 1 v = nil end return n > 15", ":1"),
        ("for k in pairs(_G) do if k == 'redis' then return k end end", "\"redis\""),
        (
            "for _, n in pairs({'io','os','debug','package','require','dofile','loadfile','print','module','newproxy','getfenv','setfenv'}) do if pcall(function() return _G[n] end) then return n end end return 'none'",
            "\"none\"",
        ),
    ]);
}

#[test]
fn a_killed_script_cannot_hold_on() {
    for body in [
        "while true do end",
        "while true do pcall(function() while true do end end) end",
        "while true do xpcall(function() while true do end end, function() while true do end end) end",
        "local co = coroutine.create(function() while true do end end) while true do coroutine.resume(co) co = coroutine.create(function() while true do end end) end",
        "while true do load(function() while true do end end) end",
        "local t = setmetatable({}, {__index = function() while true do end end}) while true do pcall(function() return t.x end) end",
        "while true do pcall(string.gsub, 'a', 'a', function() while true do end end) end",
        "while true do pcall(table.sort, {3,2,1}, function() while true do end end) end",
        "while true do pcall(tostring, setmetatable({}, {__tostring = function() while true do end end})) end",
        "return cjson.encode(1), (function() while true do end end)()",
    ] {
        let told = "-ERR too many instructions script: SHA, on @user_script:1.";
        assert_eq!(eval(body), told, "{body}");
    }
}

#[test]
fn greed_is_an_error() {
    for (body, part) in [
        ("local s = 'x' while true do s = s .. s end", "not enough memory"),
        ("return string.rep('x', 2^31 - 1)", "not enough memory"),
        ("local t = {} for i = 1, 1e9 do t[i] = {} end", "not enough memory"),
        ("local function f() return f() + 1 end return f()", "stack overflow"),
        ("local function f() return pcall(f) end return tostring(f())", "\""),
        ("local s = string.rep('a?', 100000) return string.find('a', s)", "pattern too complex"),
        (
            "return string.find(string.rep('a', 1000), string.rep('a-', 20) .. 'b')",
            "pattern too complex",
        ),
        ("return string.gsub(string.rep('a', 100000), 'a-b', '')", "pattern too complex"),
        ("return #string.gsub(string.rep('ab ', 1000000), '%s+', '')", ":2000000"),
        (
            "return string.find(string.rep('a', 5000000), string.rep('a', 2000000) .. 'b', 1, true)",
            "pattern too complex",
        ),
        ("return table.concat(setmetatable({}, {}), 'x', 1, 2)", "invalid value (nil)"),
        ("return select('#', unpack({}, 1, 1e7))", "too many results to unpack"),
        ("local t = {} for i = 1, 3000 do t = {t} end return t", "reached lua stack limit"),
        ("local t = {} t[1] = t return t", "reached lua stack limit"),
        (
            "local t = {} for i = 1, 3000 do t = {t} end return cjson.encode(t)",
            "excessive nesting (1001)",
        ),
        ("return cjson.decode(string.rep('[', 10000))", "too many nested data structures (1001)"),
        ("return cmsgpack.unpack(string.rep('\\145', 100000))", "Bad data format"),
        ("local t = {5,3,1,4,2,9,7} table.sort(t, function() return true end) return 'ok'", ""),
        ("return string.rep('', 2^31 - 1)", "\"\""),
        ("return cjson.decode('[' .. string.rep('[],', 2000000) .. '1]')", "not enough memory"),
        ("return loadstring(string.dump(function() end))", "nil"),
        ("local s = string.rep('(', 300) return loadstring('return ' .. s)", "nil"),
        ("return string.format('%99999d', 1)", "invalid format"),
    ] {
        let answer = eval(body);
        assert!(answer.contains(part), "{body}: {answer}");
    }
    assert!(eval("\x1bLua").contains("Error compiling script"));
}

#[test]
fn a_vm_survives_every_failure() {
    let vm = vm();
    let mut fake = Fake::default();
    for _ in 0..20 {
        eval_in(&vm, &mut fake, "local s = 'x' while true do s = s .. s end");
        eval_in(&vm, &mut fake, "while true do end");
        eval_in(&vm, &mut fake, "return redis.call('nope')");
        assert_eq!(eval_in(&vm, &mut fake, "return redis.call('list')"), "[\"a\" \"b\"]");
    }
}

#[test]
fn randomness_follows_the_seed() {
    let vm = vm();
    let draw = |seed| {
        let mut fake = Fake { seed, ..Fake::default() };
        eval_in(&vm, &mut fake, "return {math.random(1000),math.random(1000),math.random(5,9)}")
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
    check(&[
        (
            "math.randomseed(5) local a = math.random(1e6) math.randomseed(5) return a == math.random(1e6)",
            ":1",
        ),
        (
            "for i = 1, 1000 do local n = math.random(3, 5) if n < 3 or n > 5 or n % 1 ~= 0 then return n end end return 'in'",
            "\"in\"",
        ),
        (
            "return math.random(0)",
            "-ERR user_script:1: bad argument #1 to 'random' (interval is empty) script: SHA, on @user_script:1.",
        ),
    ]);
}

#[test]
fn settings_do_not_outlive_a_run() {
    let vm = vm();
    let mut fake = Fake::default();
    eval_in(&vm, &mut fake, "cjson.encode_max_depth(1) collectgarbage('stop') redis.setresp(3)");
    assert_eq!(eval_in(&vm, &mut fake, "return cjson.encode_max_depth()"), ":1000");
    assert_eq!(eval_in(&vm, &mut fake, "return {false}"), "[nil]");
}

#[test]
fn a_callers_panic_passes_through_and_the_vm_stays_usable() {
    let vm = vm();
    let mut fake = Fake::default();
    for body in ["pcall(redis.call, 'panic') return 1", "pcall(redis.log, 1, 'panic') return 1"] {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            vm.run(&Sha::of(body.as_bytes()), body.as_bytes(), &[], &[], &mut fake)
        }));
        assert!(result.is_err());
        assert_eq!(eval_in(&vm, &mut fake, "return 1"), ":1");
    }
}

#[test]
fn compiled_scripts_are_bounded() {
    let vm = Vm::new(Limits { compiled_scripts_max: 10, ..Limits::default() });
    let mut fake = Fake::default();
    for i in 0..1_000 {
        assert_eq!(eval_in(&vm, &mut fake, &format!("return {i}")), format!(":{i}"));
    }
    vm.forget_compiled();
    assert_eq!(eval_in(&vm, &mut fake, "return 1"), ":1");
    assert!(vm.compile(&Sha::of(b"x x"), b"x x").is_err());
}

#[test]
fn the_log_reaches_the_caller() {
    let mut fake = Fake::default();
    eval_in(&vm(), &mut fake, "redis.log(redis.LOG_WARNING, 'a', 1)");
    assert_eq!(fake.logged, [(3, b"a 1".to_vec())]);
}

proptest::proptest! {
    #[test]
    fn libraries_withstand_any_bytes(
        a in proptest::collection::vec(proptest::num::u8::ANY, 0..40),
        json in "[\\[\\]{}:,\"\\\\u0-9a-feE+. tnl-]{0,30}",
        format in "[<>!0-9bBhHlLTiIfdscx ]{0,12}",
        n in proptest::num::f64::ANY,
    ) {
        // The libraries answer or raise; a panic of theirs would come out as `unknown error`.
        let vm = vm();
        let n = n.to_string();
        for body in [
            "return cjson.encode({ARGV[1], tonumber(ARGV[4]) or 1})",
            "return cjson.decode(ARGV[1])",
            "return cjson.decode(ARGV[2])",
            "return cmsgpack.unpack(ARGV[1])",
            "return {cmsgpack.unpack_limit(ARGV[1], 2, 3)}",
            "return cmsgpack.unpack(cmsgpack.pack(ARGV[1], tonumber(ARGV[4])))",
            "return {struct.unpack(ARGV[3], ARGV[1])}",
            "return struct.pack(ARGV[3], ARGV[4], ARGV[4], ARGV[4], ARGV[4], ARGV[4], ARGV[4])",
            "return struct.size(ARGV[3])",
            "return struct.unpack(ARGV[1], ARGV[1], #ARGV[1])",
            "return bit.tohex(tonumber(ARGV[4]) or 0, #ARGV[1] - 20)",
            "return math.random(tonumber(ARGV[4]) or 1)",
            "return ARGV[1]:find(ARGV[2]) or ARGV[2]:match(ARGV[1])",
            "return {ARGV[1]:gsub(ARGV[3], '%0%0')}",
            "return loadstring(ARGV[1])",
            "return {map={[ARGV[1]]={set={[ARGV[2]]=true}}}}",
        ] {
            let argv: [&[u8]; 4] = [&a, json.as_bytes(), format.as_bytes(), n.as_bytes()];
            let sha = Sha::of(body.as_bytes());
            let answer = vm.run(&sha, body.as_bytes(), &[], &argv, &mut Fake::default());
            if let Err(error) = answer {
                proptest::prop_assert!(!error.text().contains("unknown error"), "{body}: {error}");
            }
        }
    }
}

#[test]
#[ignore = "a measurement: cargo test --release -p holdfast-engine script_timing -- --ignored --nocapture"]
fn script_timing() {
    struct Token(Vec<u8>);
    impl Caller for Token {
        fn call(&mut self, args: &[&[u8]]) -> Reply {
            if args[0] == b"get" { Reply::bulk(&self.0) } else { Reply::Integer(1) }
        }
        fn log(&mut self, _: i64, _: &[u8]) {}
        fn seed(&self) -> u64 {
            1
        }
        fn interrupt(&mut self, _: u64) -> Interrupt {
            Interrupt::Continue
        }
    }
    let vm = Vm::new(Limits::default());
    let mut caller = Token(b"some-token-value".to_vec());
    for body in [
        "if redis.call('get',KEYS[1])==ARGV[1] then return redis.call('del',KEYS[1]) else return 0 end",
        "return 1",
        "return cjson.encode({a=1,b={1,2,3},c='text'})",
        "return cjson.decode('{\"a\":1,\"b\":[1,2,3],\"c\":\"text\"}').a",
        "return bit.band(255, 15)",
    ] {
        let sha = Sha::of(body.as_bytes());
        let mut best = f64::MAX;
        for _ in 0..7 {
            #[allow(clippy::disallowed_methods, reason = "measures")]
            let start = std::time::Instant::now();
            for _ in 0..200_000 {
                let argv: [&[u8]; 1] = [b"some-token-value"];
                std::hint::black_box(
                    vm.run(&sha, body.as_bytes(), &[b"key:0000012345"], &argv, &mut caller)
                        .unwrap(),
                );
            }
            best = best.min(start.elapsed().as_nanos() as f64 / 200_000.0);
        }
        println!("{best:7.0} ns  {body}");
    }
}
