// Libraries that only a user of the style needs (QUIP, libtorch) are opened when it is used: the
// plugin itself is loaded by every LAMMPS of the environment, and must cost it nothing.
#ifndef MLSEL_BRIDGE_H
#define MLSEL_BRIDGE_H

#include <dlfcn.h>
#include <stdexcept>
#include <string>

namespace mlsel {

inline std::string folder_of_plugin(const void *address)
{
  Dl_info info;
  if (!dladdr(address, &info) || !info.dli_fname) return ".";
  const std::string path = info.dli_fname;
  const auto slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

/// A function of a library that lies beside the plugin.
template <typename Function> Function *bridge_function(const char *library, const char *name)
{
  static const int here = 0;
  const std::string path = folder_of_plugin(&here) + "/" + library;
  void *handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle) {
    const char *cause = dlerror();
    throw std::runtime_error(std::string("cannot open ") + library + ": " +
                             (cause ? cause : "unknown") +
                             "; build the plugins again: python -m mlsel.plugins build --force");
  }
  auto *function = reinterpret_cast<Function *>(dlsym(handle, name));
  if (!function) throw std::runtime_error(path + " has no " + name);
  return function;
}

}    // namespace mlsel
#endif
