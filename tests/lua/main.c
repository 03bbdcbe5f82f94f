// The interpreter as one translation unit, and a program that runs scripts in it.
//
// Each script gets a state of its own, and the first argument as its own argument: how much it is to do.

#define LUA_USE_POSIX
// Hashes are seeded by addresses and the time; output that is compared needs the same order each time.
#define luai_makeseed() 1u
#define LUA_CORE
#define LUA_LIB
#include "lprefix.h"

#include "lapi.c"
#include "lauxlib.c"
#include "lbaselib.c"
#include "lcode.c"
#include "lcorolib.c"
#include "lctype.c"
#include "ldblib.c"
#include "ldebug.c"
#include "ldo.c"
#include "ldump.c"
#include "lfunc.c"
#include "lgc.c"
#include "linit.c"
#include "liolib.c"
#include "llex.c"
#include "lmathlib.c"
#include "lmem.c"
#include "loadlib.c"
#include "lobject.c"
#include "lopcodes.c"
#include "loslib.c"
#include "lparser.c"
#include "lstate.c"
#include "lstring.c"
#include "lstrlib.c"
#include "ltable.c"
#include "ltablib.c"
#include "ltm.c"
#include "lundump.c"
#include "lutf8lib.c"
#include "lvm.c"
#include "lzio.c"

static int with_traceback(lua_State *L) {
    luaL_traceback(L, L, luaL_tolstring(L, 1, NULL), 1);
    return 1;
}

static int run(const char *script, const char *scale) {
    lua_State *L = luaL_newstate();
    if (L == NULL) return 1;
    luaL_openlibs(L);
    lua_pushcfunction(L, with_traceback);
    int failed = luaL_loadfile(L, script);
    if (!failed) {
        lua_pushinteger(L, atoll(scale));
        failed = lua_pcall(L, 1, 0, 1);
    }
    if (failed) printf("%s\n", lua_tostring(L, -1));
    lua_close(L);
    return failed != LUA_OK;
}

int main(int argc, char **argv) {
    int failures = 0;
    for (int i = 2; i < argc; i++) failures += run(argv[i], argv[1]);
    return failures;
}
