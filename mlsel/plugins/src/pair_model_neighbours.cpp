// What LAMMPS leaves out of neighbour lists, and a model then never sees.

#include "pair_model.h"

#include <algorithm>
#include <climits>
#include <utility>

#include "atom.h"
#include "comm.h"
#include "error.h"
#include "group.h"
#include "neighbor.h"

using namespace LAMMPS_NS;

namespace {
/// comm_modify group is told to LAMMPS's own classes alone.
struct OpenComm : Comm {
  static int border_group(const Comm &comm) { return comm.*(&OpenComm::bordergroup); }
};
}    // namespace

/// Exclusions may be meant, as between frozen atoms: they are told once, and the run goes on.
void PairModel::check_exclusions()
{
  const std::string found = exclusion();
  if (comm->me == 0 && !found.empty() && found != exclusion_told)
    error->warning(FLERR,
                   "{}: {} leaves atoms that the model is for out of each other's neighbours: "
                   "where such atoms are within {} Å of another, or both of a third, energies and "
                   "forces are not the model's; do without it unless that is meant",
                   style, found, cutoff);
  exclusion_told = found;
}

/// The first setting of neigh_modify or comm_modify that takes pairs of our atoms out of the list,
/// in its words; empty: none. The same on all processes.
std::string PairModel::exclusion()
{
  const auto name = [this](int which) { return std::string(group->names[which]); };
  const auto is_ours = [this](int i) { return kinds[atom->type[i]] != NOT_OURS; };
  // over all processes: whether one of our atoms satisfies a condition
  const auto any = [&](const auto &condition) {
    int here = 0, anywhere = 0;
    for (int i = 0; i < atom->nlocal && !here; i++) here = is_ours(i) && condition(i);
    MPI_Allreduce(&here, &anywhere, 1, MPI_INT, MPI_MAX, ours);
    return anywhere != 0;
  };
  const auto is_in = [this](int which) {
    return [this, which](int i) { return (atom->mask[i] & group->bitmask[which]) != 0; };
  };
  const auto is_of = [this](int type) {
    return [this, type](int i) { return atom->type[i] == type; };
  };

  for (int k = 0; k < neighbor->nex_type; k++) {
    const int a = neighbor->ex1_type[k], b = neighbor->ex2_type[k];
    if (any(is_of(a)) && any(is_of(b)))
      return "neigh_modify exclude type " + std::to_string(a) + ' ' + std::to_string(b);
  }
  for (int k = 0; k < neighbor->nex_group; k++) {
    const int a = neighbor->ex1_group[k], b = neighbor->ex2_group[k];
    if (any(is_in(a)) && any(is_in(b)))
      return "neigh_modify exclude group " + name(a) + ' ' + name(b);
  }
  for (int k = 0; k < neighbor->nex_mol; k++) {
    const int which = neighbor->ex_mol_group[k];
    int ends[2] = {INT_MAX, INT_MAX}, all[2];    // the smallest id, and the largest one's negative
    for (int i = 0; i < atom->nlocal; i++)
      if (is_ours(i) && is_in(which)(i)) {
        const int id = static_cast<int>(atom->molecule[i]);
        ends[0] = std::min(ends[0], id);
        ends[1] = std::min(ends[1], -id);
      }
    MPI_Allreduce(ends, all, 2, MPI_INT, MPI_MIN, ours);
    const bool is_empty = all[0] == INT_MAX, are_several = all[0] != -all[1];
    const bool is_intra = neighbor->ex_mol_intra[k] != 0;
    if (!is_empty && (is_intra || are_several))
      return std::string("neigh_modify exclude molecule/") + (is_intra ? "intra " : "inter ") +
          name(which);
  }
  const std::pair<const char *, int> only[] = {
      {"neigh_modify include ", neighbor->includegroup},
      {"comm_modify group ", OpenComm::border_group(*comm)}};
  for (const auto &[words, which] : only)
    if (which && any([&](int i) { return !is_in(which)(i); })) return words + name(which);
  return "";
}

/// LAMMPS leaves out of the list what special_bonds gives the factor zero: by default all
/// neighbours up to three bonds away. With long-range electrostatics it leaves them in. Asked at
/// each new list: fixes make bonds in a run.
void PairModel::check_special_bonds()
{
  const int *flags = neighbor->special_flag;
  if (!atom->molecular || std::all_of(flags + 1, flags + 4, [](int flag) { return flag; })) return;
  if (atom->molecular == Atom::TEMPLATE && atom->nbonds)
    error->all(FLERR,
               "{}: special_bonds has a factor 0, and LAMMPS leaves such neighbours in molecules "
               "of atom_style template out of the list: give special_bonds lj/coul 1 1 1, or 1e-50 "
               "where another style must not see them",
               style);
  if (!atom->nspecial) return;
  const auto is_lost = [this](tagint tag) {
    const int j = atom->map(tag);    // an atom that is not here is nobody's neighbour
    return j >= 0 && kinds[atom->type[j]] != NOT_OURS;
  };
  int found = 0, on_any = 0;
  for (int bonds = 1; bonds <= 3; bonds++) {
    if (flags[bonds]) continue;
    for (int i = 0; i < atom->nlocal; i++) {
      if (kinds[atom->type[i]] == NOT_OURS) continue;
      const int nearer = bonds > 1 ? atom->nspecial[i][bonds - 2] : 0;
      if (std::any_of(atom->special[i] + nearer, atom->special[i] + atom->nspecial[i][bonds - 1],
                      is_lost))
        found = bonds;
    }
  }
  MPI_Allreduce(&found, &on_any, 1, MPI_INT, MPI_MAX, ours);
  if (on_any)
    error->all(FLERR,
               "{}: special_bonds has the factor 0 for atoms that are {} bond{} apart, and LAMMPS "
               "leaves such neighbours out of the list: give special_bonds lj/coul 1 1 1, or 1e-50 "
               "where another style must not see them",
               style, on_any, on_any == 1 ? "" : "s");
}
