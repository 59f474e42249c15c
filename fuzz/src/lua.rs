//! The Lua bridge: whatever a script says or calls, it comes to an end, and the next one finds
//! the interpreter as it was.

use holdfast_engine::script::{Caller, Interrupt, Limits, Sha, Vm};
use holdfast_engine::{CommandError, Reply};

/// Instructions after which a script is killed.
const INSTRUCTIONS_MAX: u64 = 200_000;
/// How often it is asked whether to go on.
const INSTRUCTIONS_PER_INTERRUPT: u32 = 1000;
/// Memory of the interpreter, bytes: low enough for inputs to reach it.
const MEMORY_BYTES_MAX: usize = 8 << 20;

/// What libraries are called with: edges of types, sizes and nesting.
const VALUES: &[&str] = &[
    "nil",
    "true",
    "0",
    "-1",
    "1",
    "2",
    "3",
    "1e15",
    "-1e300",
    "0/0",
    "1/0",
    "2^31",
    "2^53",
    "0.1",
    "''",
    "'a'",
    "'abc'",
    "'%d%s'",
    "'%5.3s'",
    "'%99999d'",
    "'(a*)*b'",
    "'%b()'",
    "'[a-'",
    "'%'",
    "'\\0\\255'",
    "'>I2<i4!8'",
    "'bBhHlLfdsi0'",
    "'i16'",
    "'[1,2,{\"a\":null}]'",
    "'\\147\\1\\192'",
    "'\\221\\255\\255\\255\\255'",
    "('x'):rep(1000)",
    "('['):rep(2000)",
    "('a'):rep(30)..'b'",
    "{}",
    "{1,2,3}",
    "{a=1,[2]=3}",
    "{err='ERR e'}",
    "{ok='fine'}",
    "{double=1.5}",
    "{map={a=1}}",
    "{set={a=true}}",
    "cycle",
    "deep",
    "print",
    "KEYS",
    "ARGV",
    "_G",
    "string",
    "coroutine.wrap",
    "setmetatable({}, {__index=function() return 1 end})",
    "redis.call",
    "cjson.null",
];

/// Tables whose functions are called.
const LIBRARIES: &[&str] =
    &["string", "table", "math", "cjson", "cmsgpack", "struct", "bit", "redis", "os", "_G"];

const PRELUDE: &str = "local cycle = {}; cycle[1] = cycle
local deep = {}; for i = 1, 300 do deep = {deep} end
local function names(t) local n = {}; for k in pairs(t) do \
if type(k) == 'string' then n[#n + 1] = k end end; table.sort(n); return n end
";

/// A caller that answers each kind of reply and counts.
#[derive(Default)]
struct Counting {
    calls: usize,
    instructions: u64,
}

impl Caller for Counting {
    fn call(&mut self, args: &[&[u8]]) -> Reply {
        assert!(!args.is_empty(), "never without a name");
        self.calls += 1;
        match args.len() + args[0].len() {
            2 => Reply::Ok,
            3 => Reply::Nil,
            4 => Reply::bulk(args[0]),
            5 => Reply::Array(args.iter().map(|arg| Reply::bulk(arg)).collect()),
            6 => Reply::Map(vec![(Reply::bulk(args[0]), Reply::Double(0.5))]),
            7 => Reply::Bool(true),
            8 => Reply::Integer(i64::MIN),
            _ => Reply::error(CommandError::SYNTAX),
        }
    }

    fn log(&mut self, level: i64, _text: &[u8]) {
        assert!((0..=3).contains(&level));
    }

    fn seed(&self) -> u64 {
        7
    }

    fn interrupt(&mut self, instructions: u64) -> Interrupt {
        assert!(instructions >= self.instructions, "instructions only grow");
        self.instructions = instructions;
        if instructions > INSTRUCTIONS_MAX {
            return Interrupt::Kill(CommandError::known("ERR killed"));
        }
        Interrupt::Continue
    }
}

/// The first byte chooses: the rest is a script, or calls of library functions.
pub fn run(data: &[u8]) {
    thread_local! {
        static VM: Vm = Vm::new(Limits {
            memory_bytes_max: MEMORY_BYTES_MAX,
            instructions_per_interrupt: INSTRUCTIONS_PER_INTERRUPT,
            compiled_scripts_max: 100,
        });
    }
    let [choice, rest @ ..] = data else { return };
    let body = if choice % 4 == 0 { rest.to_vec() } else { calls(rest) };
    VM.with(|vm| {
        let mut caller = Counting::default();
        let reply = vm.run(&Sha::of(&body), &body, &[b"k"], &[b"v", b"1"], &mut caller);
        let bound = INSTRUCTIONS_MAX + 2 * u64::from(INSTRUCTIONS_PER_INTERRUPT);
        assert!(caller.instructions <= bound, "{} instructions", caller.instructions);
        drop(reply);
        unharmed(vm);
    });
}

/// Nothing a script did outlives it.
fn unharmed(vm: &Vm) {
    const PROBE: &[u8] = b"local n = 0; for k in pairs(_G) do n = n + 1 end
        return {n, #KEYS, math.abs(-2), string.rep('x', 3), cjson.encode({1}), math.random(1000)}";
    let probe = |vm: &Vm| vm.run(&Sha::of(PROBE), PROBE, &[], &[], &mut Counting::default());
    let fresh = Vm::new(Limits::default());
    thread_local! {
        static EXPECTED: std::cell::RefCell<Option<Reply>> = const { std::cell::RefCell::new(None) };
    }
    EXPECTED.with_borrow_mut(|expected| {
        let expected = expected.get_or_insert_with(|| probe(&fresh).expect("a fresh one works"));
        assert_eq!(probe(vm).as_ref(), Ok(&*expected), "the next script finds all as it was");
    });
}

/// A script of calls: each three bytes name a library, a function and the number of arguments,
/// each of which is one more byte. Results are kept as arguments for later calls.
fn calls(data: &[u8]) -> Vec<u8> {
    let mut script = String::from(PRELUDE);
    let mut bytes = data.iter().copied();
    script.push_str("local last = 'x'\n");
    while let (Some(library), Some(function)) = (bytes.next(), bytes.next()) {
        let library = LIBRARIES[usize::from(library) % LIBRARIES.len()];
        let count = bytes.next().unwrap_or(0) % 5;
        let args: Vec<&str> = (0..count)
            .map(|_| match usize::from(bytes.next().unwrap_or(0)) % (VALUES.len() + 4) {
                at if at < VALUES.len() => VALUES[at],
                _ => "last",
            })
            .collect();
        let protect =
            if function >= 128 { "pcall" } else { "(function(f, ...) return f, f(...) end)" };
        script.push_str(&format!(
            "do local n = names({library}); local f = {library}[n[{function} % #n + 1]]\n\
             if type(f) == 'function' then local ok, r = {protect}(f, {})\nlast = r end end\n",
            if args.is_empty() { "nil".to_owned() } else { args.join(", ") },
        ));
    }
    script.push_str("return last");
    script.into_bytes()
}
