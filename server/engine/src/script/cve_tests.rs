//! Public holes of Lua 5.1 and of Redis's use of it. SECURITY.md names the test for each.

use super::tests::{check, eval};

/// Runs `body`, which must fail with an error that contains `part`.
fn refuses(body: &str, part: &str) {
    let answer = eval(body);
    assert!(answer.starts_with("-ERR") && answer.contains(part), "{body}: {answer}");
}

#[test]
fn cve_2025_46817_unpack_counts_without_overflow() {
    for (from, to) in [
        ("-2", "2147483647"),
        ("0", "2147483647"),
        ("-2147483648", "2147483647"),
        ("-2147483648", "-1"),
        ("1", "2147483647"),
        ("-1", "2147483646"),
    ] {
        refuses(
            &format!("return {{unpack({{1,2,3}}, {from}, {to})}}"),
            "too many results to unpack",
        );
        check(&[(
            &format!("return {{pcall(unpack, {{1,2,3}}, {from}, {to})}}")[..],
            "[nil \"too many results to unpack\"]",
        )]);
    }
    check(&[
        ("return {unpack({1,2,3}, 1, 3)}", "[:1 :2 :3]"),
        ("return select('#', unpack({}, 2147483645, 2147483647))", ":3"),
        ("return select('#', unpack({}, 2147483647, 2147483647))", ":1"),
        ("return select('#', unpack({}, 2, 1))", ":0"),
    ]);
}

#[test]
fn cve_2025_49844_a_chunks_name_outlives_its_parsing() {
    // Each chunk has a new name and makes garbage while it is parsed.
    check(&[(
        "local sum = 0 for i = 1, 2000 do \
         local text = 'local t = {' .. string.rep('\"' .. i .. '\",', 50) .. '} return ' .. i \
         sum = sum + loadstring(text, string.rep('n', i % 60) .. i)() end return sum",
        ":2001000",
    )]);
}

#[test]
fn cve_2025_46819_long_brackets_are_counted_without_overflow() {
    check(&[
        ("return [[x]]", "\"x\""),
        ("return [==[a]=]b]==]", "\"a]=]b\""),
        ("--[==[ comment ]] ]=]\n]==] return 1", ":1"),
        ("local t = {[ [[k]] ] = 1} return t.k", ":1"),
        (
            "return #(loadstring('return [' .. string.rep('=', 1e6) .. '[x]' .. string.rep('=', 1e6) .. ']')())",
            ":1",
        ),
        ("return tostring(loadstring('return ' .. string.rep('[=', 1e6)))", "\"nil\""),
        ("return tostring(loadstring('return [=[ x ]]'))", "\"nil\""),
    ]);
}

#[test]
fn cve_2025_46818_metatables_of_basic_types_are_nobodys() {
    for body in [
        "getmetatable('').__index = function() return 'mine' end",
        "getmetatable('').__add = 1",
        "rawset(getmetatable(''), '__index', 1)",
        "setmetatable(getmetatable(''), {})",
    ] {
        refuses(body, "Attempt to modify a readonly table");
    }
    for body in ["setmetatable('', {})", "setmetatable(1, {})", "setmetatable(nil, {})"] {
        refuses(body, "table expected");
    }
    refuses("debug.setmetatable(nil, {})", "nonexistent global variable 'debug'");
}

#[test]
fn cve_2024_31449_bit_tohex_bounds_its_digits() {
    check(&[
        ("return bit.tohex(65535, -2147483648)", "\"0000FFFF\""),
        ("return bit.tohex(65535, 2147483647)", "\"0000ffff\""),
    ]);
}

#[test]
fn cve_2024_46981_no_finalizer_of_a_script_is_run() {
    refuses("return newproxy(true)", "nonexistent global variable 'newproxy'");
    check(&[(
        "local ran = 0 do local t = setmetatable({}, {__gc = function() ran = 1 end}) end \
         collectgarbage('collect') return ran",
        ":0",
    )]);
}

#[test]
fn cve_2022_24834_cjson_bounds_nesting_and_size() {
    refuses(
        "local t = {} for i = 1, 3000 do t = {t} end return cjson.encode(t)",
        "excessive nesting",
    );
    refuses("cjson.encode_keep_buffer(true) cjson.encode_max_depth(2147483648)", "");
}

#[test]
fn cve_2022_24735_globals_are_nobodys() {
    for body in ["_G.redis = 1", "redis.call = 1", "string.format = 1", "rawset(_G, 'x', 1)"] {
        refuses(body, "Attempt to modify a readonly table");
    }
    refuses("x = 1", "Attempt to modify a readonly table");
}

#[test]
fn cve_2021_32626_the_stack_is_checked() {
    // As in Redis, the innermost element says so.
    let answer = eval("local t = {} for i = 1, 3000 do t = {t} end return t");
    assert!(answer.contains("reached lua stack limit"));
    refuses("return redis.call(unpack({}, 1, 7990))", "");
    check(&[("return #{string.byte(string.rep('x', 7000), 1, -1)}", ":7000")]);
}

#[test]
fn cve_2020_14147_and_2015_8080_struct_bounds_its_sizes() {
    refuses("return struct.unpack('I2147483648', 'aaaa')", "integral size overflow");
    refuses("return struct.pack('>I2147483647', 1)", "is larger than limit");
    refuses("return struct.pack('!99', 1)", "");
}

#[test]
fn cve_2018_11218_and_11219_packed_input_is_bounded() {
    refuses("return cmsgpack.unpack('\\221\\255\\255\\255\\255')", "Missing bytes in input");
    refuses("return struct.unpack('c2147483647', 'x')", "");
    check(&[("return #cmsgpack.pack(string.rep('x', 70000))", ":70005")]);
}

#[test]
fn cve_2015_4335_no_bytecode_is_loaded() {
    check(&[
        ("return tostring(loadstring('\\27Lua'))", "\"nil\""),
        ("local f = loadstring('return 1') return tostring(loadstring(string.dump(f)))", "\"nil\""),
        (
            "local n = 0 return tostring(load(function() n = n + 1 if n == 1 then return '\\27Lua' end end))",
            "\"nil\"",
        ),
    ]);
}

#[test]
fn cve_2014_5461_a_vararg_function_has_room_for_its_parameters() {
    check(&[(
        "local names = {} for i = 1, 190 do names[i] = 'p' .. i end \
         local f = loadstring('return function(' .. table.concat(names, ',') .. ', ...) return p190 end')() \
         local function deep(n) if n == 0 then return f() end return (deep(n - 1)) end \
         return tostring(deep(150))",
        "\"nil\"",
    )]);
}
