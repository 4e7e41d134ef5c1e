/* Between a process and a plugin that it loads and unloads. */

#ifndef PLUGIN_H
#define PLUGIN_H

/* What the plugin's own TLS library made, of what the plugin asked for once. */
struct plugged {
    unsigned long version;
    int contexts;
    int connections;
};

typedef void plug_fn(struct plugged *plugged);

/* Exported by a plugin. */
plug_fn plug;

#endif
