// pair_style quip through QUIP's library.

#include "pair_quip.h"

#include <algorithm>
#include <exception>

#include "atom.h"
#include "bridge.h"
#include "domain.h"
#include "error.h"
#include "neigh_list.h"

using namespace LAMMPS_NS;

PairMlselQuip *PairMlselQuip::owner = nullptr;

void PairMlselQuip::load()
{
  std::string cause;
  try {
    quip_load =
        mlsel::bridge_function<mlsel_quip_load_function>("libmlsel_quip.so", "mlsel_quip_load");
    quip_compute = mlsel::bridge_function<mlsel_quip_compute_function>("libmlsel_quip.so",
                                                                       "mlsel_quip_compute");
    owner = nullptr;
    const char *message = quip_load(path.c_str(), init_string.c_str(), &cutoff);
    if (message) cause = std::string("QUIP refuses ") + path + ": " + message;
  } catch (const std::exception &exception) {
    cause = exception.what();
  }
  agree(cause);
  owner = this;
}

/// What the interface of QUIP for LAMMPS cannot do shows in a small cluster.
void PairMlselQuip::check_library()
{
  load();
  std::vector<int> elements;
  for (const int kind : kinds)
    if (kind != NOT_OURS) elements.push_back(kind);
  if (elements.empty()) return;
  const std::string wrong = mlsel::check_quip(quip_compute, cutoff, elements);
  agree(wrong.empty() ? ""
                      : "QUIP's interface for LAMMPS cannot evaluate " + path + " (" + init_string +
                "): " + wrong + "; quippy's ASE calculator may");
}

void PairMlselQuip::gather_library(Change change)
{
  if (owner != this) load();    // another LAMMPS of this process has been here
  if (change == Change::nothing) return;
  const int n_all = atom->nlocal + atom->nghost;
  quip.clear();
  atoms.clear();
  index_of.assign(n_all, -1);
  for (int i = 0; i < n_all; i++) {
    const int number = kinds[atom->type[i]];
    if (number == NOT_OURS) continue;
    index_of[i] = static_cast<int>(atoms.size());
    if (i < atom->nlocal) quip.n_owned++;
    atoms.push_back(i);
    quip.numbers.push_back(number);
    quip.tags.push_back(static_cast<int>(atom->tag[i]));
  }
  for (int ii = 0; ii < list->inum; ii++) {
    const int i = list->ilist[ii];
    if (index_of[i] < 0) continue;
    quip.ilist.push_back(index_of[i]);
    int n = 0;
    for (int jj = 0; jj < list->numneigh[i]; jj++) {
      const int j = index_of[list->firstneigh[i][jj] & NEIGHMASK];
      if (j < 0) continue;
      quip.neigh.push_back(j + 1);
      n++;
    }
    quip.numneigh.push_back(n);
  }
}

void PairMlselQuip::evaluate_library()
{
  if (quip.ilist.empty()) return;
  const size_t n = atoms.size();
  quip.x.resize(3 * n);
  for (size_t k = 0; k < n; k++)
    for (int d = 0; d < 3; d++) quip.x[3 * k + d] = atom->x[atoms[k]][d];
  const double lattice[9] = {domain->xprd, 0.0,        0.0,        domain->xy,  domain->yprd,
                             0.0,          domain->xz, domain->yz, domain->zprd};
  std::copy_n(lattice, 9, quip.lattice);
  if (const char *message = quip.run(quip_compute))
    error->one(FLERR, "{}: QUIP's library with {}: {}", style, path, message);
  check_finite({quip.forces, quip.virial});

  for (size_t k = 0; k < n; k++)
    for (int d = 0; d < 3; d++) atom->f[atoms[k]][d] += quip.forces[3 * k + d];
  if (eflag_global) eng_vdwl += quip.energy;
  if (eflag_atom)
    for (size_t k = 0; k < n; k++) eatom[atoms[k]] += quip.local_energies[k];
  if (vflag_global) add_virial(virial, quip.virial);
  if (vflag_atom)
    for (size_t k = 0; k < n; k++) add_virial(vatom[atoms[k]], &quip.local_virials[9 * k]);
}

void PairMlselQuip::add_virial(double *sum, const double *v)
{
  sum[0] += v[0];
  sum[1] += v[4];
  sum[2] += v[8];
  sum[3] += 0.5 * (v[1] + v[3]);
  sum[4] += 0.5 * (v[2] + v[6]);
  sum[5] += 0.5 * (v[5] + v[7]);
}
