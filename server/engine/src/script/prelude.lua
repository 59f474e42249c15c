-- Assembles what scripts see; runs once per interpreter. Returns the table of globals.
--   raw       functions on Lua's C interface (crate::raw::lua)
--   globals   the table behind the scripts' globals; KEYS and ARGV are set in it at every run
--   standard  Lua's own globals
--   ours      libraries written in Rust, whose functions answer (true, ...) or (false, error)
--   new_cjson a fresh cjson library
local raw, globals, standard, ours, new_cjson = ...
local error, type, next, setmetatable = standard.error, standard.type, standard.next, standard.setmetatable
local loadstring, tostring, byte = standard.loadstring, standard.tostring, standard.string.byte
local concat = standard.table.concat
local resume, collectgarbage = standard.coroutine.resume, standard.collectgarbage
local rethrow_kill = raw.rethrow_kill

local function raising_library(library)
    local result = {}
    for name, value in next, library do
        result[name] = type(value) == 'function' and raw.make_raising(value) or value
    end
    return result
end

-- Read-only views. The map is strong: views live as long as the interpreter. `shown` is what
-- getmetatable answers.
local real_of = {}
local function readonly(real, shown)
    local view = setmetatable({}, {
        __index = real, __newindex = raw.readonly, __metatable = shown or false,
    })
    real_of[view] = real
    return view
end

local function copy(from, names)
    local to = {}
    for name in standard.string.gmatch(names, '%S+') do to[name] = from[name] end
    return to
end

local base = copy(standard, [[
    assert error getmetatable ipairs next rawequal rawget select tonumber tostring type
    unpack _VERSION
]])
for name, value in next, base do globals[name] = value end

globals.pcall = raw.pcall
globals.xpcall = raw.xpcall
globals.pairs = raw.make_pairs(real_of, next)
globals.rawset = raw.make_guarded(real_of, standard.rawset)
globals.setmetatable = raw.make_guarded(real_of, setmetatable)

-- Precompiled chunks can crash the interpreter.
local function load_text(text, name)
    if byte(text, 1) == 27 then
        return nil, '[string "\27Lua"]:1: unexpected symbol near \'char(27)\''
    end
    return loadstring(text, name)
end

function globals.loadstring(text, name)
    if type(text) ~= 'string' then
        if type(text) ~= 'number' then
            local got = text == nil and 'no value' or type(text)
            error("bad argument #1 to 'loadstring' (string expected, got " .. got .. ")", 2)
        end
        text = tostring(text)
    end
    return load_text(text, name or text)
end

-- Lua's own `load` would swallow the error that ends a killed script.
globals.load = function(reader, name)
    if type(reader) ~= 'function' then
        local got = reader == nil and 'no value' or type(reader)
        error("bad argument #1 to 'load' (function expected, got " .. got .. ")", 2)
    end
    local pieces, n = {}, 0
    while true do
        local piece = reader()
        if piece == nil or piece == '' then break end
        if type(piece) ~= 'string' then
            return nil, 'reader function must return a string'
        end
        n = n + 1
        pieces[n] = piece
    end
    return load_text(concat(pieces), name or '=(load)')
end

-- A script must not leave the collector stopped or mistuned for the next one, and what it may
-- write must not depend on this thread's history: the count is always 0.
function globals.collectgarbage(option)
    if option == nil or option == 'collect' or option == 'step' then
        return collectgarbage(option)
    end
    if option == 'count' or option == 'stop' or option == 'restart' or option == 'setpause'
        or option == 'setstepmul' then
        return 0
    end
    error("bad argument #1 to 'collectgarbage' (invalid option '" .. tostring(option) .. "')", 2)
end
function globals.gcinfo() return 0 end

local coroutine = copy(standard.coroutine, 'create running status wrap yield')
local function resumed(ok, ...)
    if not ok then rethrow_kill((...)) end
    return ok, ...
end
function coroutine.resume(...) return resumed(resume(...)) end

local math = {}
for name, value in next, standard.math do math[name] = value end
math.random = raw.make_raising(math.random)
math.randomseed = raw.make_raising(math.randomseed)

local table = {}
for name, value in next, standard.table do table[name] = value end
table.insert = raw.make_guarded(real_of, table.insert)

local string = {}
for name, value in next, standard.string do string[name] = value end
for _, name in next, { 'find', 'match' } do
    string[name] = raw.make_capped(string[name], false)
end
for _, name in next, { 'gmatch', 'gfind', 'gsub' } do
    string[name] = raw.make_capped(string[name], true)
end
string.rep = raw.make_rep(string.rep)

local redis = raising_library(ours.redis)
redis.call = raw.call
redis.pcall = raw.protected_call

local function cjson_library(library)
    local result = raising_library(library)
    result.new = function() return cjson_library(new_cjson()) end
    return result
end

globals.redis = readonly(redis)
globals.cjson = readonly(cjson_library(ours.cjson))
globals.cmsgpack = readonly(raising_library(ours.cmsgpack))
globals.struct = readonly(raising_library(ours.struct))
globals.bit = readonly(raising_library(ours.bit))
globals.math = readonly(math)
globals.table = readonly(table)
globals.string = readonly(string)
globals.coroutine = readonly(coroutine)

-- Methods of strings find the real table in one step; what getmetatable('') shows is a view.
local string_meta = standard.getmetatable('')
string_meta.__index = string
string_meta.__metatable = readonly({ __index = globals.string })

setmetatable(globals, { __index = raw.no_global })
local visible = readonly(globals, readonly({ __index = raw.no_global }))
globals._G = visible
return visible
