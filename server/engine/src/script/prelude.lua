-- Assembles what scripts see; runs once per interpreter. Returns the table of globals, the
-- environment of libraries, and the functions that load a library and call one of its functions.
--   raw       functions on Lua's C interface (crate::raw::lua)
--   globals   the table behind the scripts' globals; KEYS and ARGV are set in it at every run
--   standard  Lua's own globals
--   ours      libraries written in Rust, whose functions answer (true, ...) or (false, error)
--   new_cjson a fresh cjson library
local raw, globals, standard, ours, new_cjson = ...
local error, type, next, setmetatable = standard.error, standard.type, standard.next, standard.setmetatable
local loadstring, tostring, byte = standard.loadstring, standard.tostring, standard.string.byte
local concat, select = standard.table.concat, standard.select
local find, lower = standard.string.find, standard.string.lower
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

-- Libraries of functions. Their code runs anew before every call, so that nothing which a call
-- leaves behind outlives it. While it runs it sees only what registers functions and the log.
local loading, quiet = false, false
local registered, order

local function fail(text) error({ err = 'ERR ' .. text }) end

-- What a C function of Lua would take for a string.
local function text_of(value)
    if type(value) == 'string' then return value end
    if type(value) == 'number' then return tostring(value) end
end

local known_flags = {
    ['no-writes'] = true, ['allow-oom'] = true, ['allow-stale'] = true, ['no-cluster'] = true,
    ['allow-cross-slot-keys'] = true,
}
local function flags_of(given)
    local flags, i = {}, 1
    while given[i] ~= nil do
        local flag = text_of(given[i])
        flag = flag and lower(flag)
        if not known_flags[flag or ''] then fail('unknown flag given') end
        flags[i] = flag
        i = i + 1
    end
    return flags
end

local function named(arguments)
    if type(arguments) ~= 'table' then
        fail('calling redis.register_function with a single argument is only applicable to Lua table (representing named arguments).')
    end
    local name, callback, description, flags
    for key, value in next, arguments do
        key = text_of(key)
        if not key then
            fail('named argument key given to redis.register_function is not a string')
        end
        key = lower(key)
        if key == 'function_name' then
            name = text_of(value)
            if not name then
                fail('function_name argument given to redis.register_function must be a string')
            end
        elseif key == 'description' then
            description = text_of(value)
            if not description then
                fail('description argument given to redis.register_function must be a string')
            end
        elseif key == 'callback' then
            if type(value) ~= 'function' then
                fail('callback argument given to redis.register_function must be a function')
            end
            callback = value
        elseif key == 'flags' then
            if type(value) ~= 'table' then
                fail('flags argument to redis.register_function must be a table representing function flags')
            end
            flags = flags_of(value)
        else
            fail('unknown argument given to redis.register_function')
        end
    end
    if not name then fail('redis.register_function must get a function name argument') end
    if not callback then fail('redis.register_function must get a callback argument') end
    return name, callback, description, flags
end

local function positional(name, callback)
    name = text_of(name)
    if not name then fail('first argument to redis.register_function must be a string') end
    if type(callback) ~= 'function' then
        fail('second argument to redis.register_function must be a function')
    end
    return name, callback
end

local function register_function(...)
    if not loading then
        fail('redis.register_function can only be called on FUNCTION LOAD command')
    end
    local count = select('#', ...)
    if count < 1 or count > 2 then
        fail('wrong number of arguments to redis.register_function')
    end
    local name, callback, description, flags = (count == 1 and named or positional)(...)
    if not find(name, '^[%w_]+$') then
        fail('Library names can only contain letters, numbers, or underscores(_) and must be at least one character long')
    end
    if registered[name] then fail('Function already exists in the library') end
    registered[name] = callback
    order[#order + 1] = { name, description or false, flags or {} }
end

local load_redis = copy(redis, [[
    LOG_DEBUG LOG_VERBOSE LOG_NOTICE LOG_WARNING REDIS_VERSION REDIS_VERSION_NUM
]])
load_redis.register_function = register_function
-- What a load logs is told when the library is loaded, not at every call.
function load_redis.log(...) if not quiet then redis.log(...) end end
local load_globals = setmetatable({
    redis = readonly(setmetatable(load_redis, { __index = raw.no_global })),
}, { __index = raw.no_global })

local call_redis = {}
for name, value in next, redis do call_redis[name] = value end
for _, name in next, { 'replicate_commands', 'breakpoint', 'debug' } do call_redis[name] = nil end
local call_globals = setmetatable({ redis = readonly(call_redis) }, { __index = globals })

local library_meta = { __index = load_globals, __newindex = raw.readonly, __metatable = false }
local library_env = setmetatable({}, library_meta)

local function run_library(chunk)
    registered, order, loading = {}, {}, true
    library_meta.__index = load_globals
    chunk()
    loading = false
    library_meta.__index = call_globals
end

local function load_library(chunk)
    quiet = false
    run_library(chunk)
    registered = nil
    return order
end

local function call_function(chunk, name, keys, argv)
    globals.KEYS, globals.ARGV = nil, nil
    quiet = true
    run_library(chunk)
    local callback = registered[name]
    registered, order = nil, nil
    return callback(keys, argv)
end

return visible, library_env, load_library, call_function
