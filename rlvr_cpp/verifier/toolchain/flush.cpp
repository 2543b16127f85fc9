// A plugin for g++ that is loaded while a precompiled header is made, and only then. `#pragma rlvr instantiate` at the
// end of the header instantiates the templates that the header's own inline functions need. g++ would keep them pending
// in the precompiled header and instantiate them again at the end of every program that includes it.
//
// cc1plus exports all that is used here, so none of its headers are needed; PLUGIN_PRAGMAS is a number of its enum
// plugin_event, and flush.py proves on the machine that it is the right one.
struct cpp_reader;
struct plugin_name_args {
    char *base_name;
};
struct plugin_gcc_version;
const int PLUGIN_PRAGMAS = 15;

extern void c_register_pragma(const char *space, const char *name, void (*handler)(cpp_reader *));
extern void instantiate_pending_templates(int retries);
extern "C" void register_callback(const char *plugin, int event, void (*callback)(void *, void *), void *data);

extern "C" {
int plugin_is_GPL_compatible;  // g++ loads no plugin without it; the Apache-2.0 licence is compatible with GPLv3
int plugin_init(plugin_name_args *, plugin_gcc_version *);
}

static void instantiate(cpp_reader *) { instantiate_pending_templates(0); }

static void register_pragma(void *, void *) { c_register_pragma("rlvr", "instantiate", instantiate); }

int plugin_init(plugin_name_args *plugin, plugin_gcc_version *) {
    register_callback(plugin->base_name, PLUGIN_PRAGMAS, register_pragma, nullptr);
    return 0;
}
