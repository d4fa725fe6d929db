#include "quip_check.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace mlsel {
namespace {

constexpr double SUM_AGREES = 1e-8;     // local energies and the energy, relative
constexpr double PARTS_AGREE = 1e-6;    // the same cluster in other parts, relative
constexpr int SIDE = 3;                 // of the cluster, in atoms
constexpr double CELL = 30.0;           // Å

/// A jittered cubic grid: triplets are within the cutoff, and nobody is much closer than bonds are.
std::vector<double> places(double cutoff)
{
  const double step = std::min(2.6, 0.6 * cutoff);
  std::vector<double> x;
  unsigned state = 12345;
  const auto jitter = [&state, step] {
    state = state * 1103515245u + 12345u;    // the same in every process
    return 0.16 * step * (static_cast<double>(state >> 16 & 0x7fff) / 0x7fff - 0.5);
  };
  for (int i = 0; i < SIDE; i++)
    for (int j = 0; j < SIDE; j++)
      for (int k = 0; k < SIDE - 1; k++)
        for (const int one : {i, j, k}) x.push_back(one * step + jitter());
  return x;
}

struct Totals {
  double energy = 0.0, scale = 0.0;
  std::vector<double> forces;
  const char *message = nullptr;
};

/// Atoms first … last − 1 are this process's, the others ghosts; neighbours within reach.
Totals evaluate(mlsel_quip_compute_function *compute, const std::vector<double> &x,
                const std::vector<int> &elements, size_t first, size_t last, double reach)
{
  const size_t n = x.size() / 3;
  std::vector<size_t> order;
  for (size_t k = first; k < last; k++) order.push_back(k);
  for (size_t k = 0; k < n; k++)
    if (k < first || k >= last) order.push_back(k);
  QuipAtoms atoms;
  atoms.n_owned = static_cast<int>(last - first);
  // the cluster is alone in it, and an Ewald sum, which comes out wrong, does not take all memory
  for (const int axis : {0, 4, 8}) atoms.lattice[axis] = CELL;
  for (const size_t k : order) {
    atoms.numbers.push_back(elements[(k * 7 / 3) % elements.size()]);
    atoms.tags.push_back(static_cast<int>(k) + 1);
    atoms.x.insert(atoms.x.end(), x.begin() + 3 * k, x.begin() + 3 * k + 3);
  }
  for (int i = 0; i < atoms.n_owned; i++) {
    const size_t before = atoms.neigh.size();
    for (size_t j = 0; j < n; j++) {
      double square = 0.0;
      for (int d = 0; d < 3; d++)
        square +=
            (atoms.x[3 * j + d] - atoms.x[3 * i + d]) * (atoms.x[3 * j + d] - atoms.x[3 * i + d]);
      if (j != static_cast<size_t>(i) && square < reach * reach)
        atoms.neigh.push_back(static_cast<int>(j) + 1);
    }
    atoms.ilist.push_back(i);
    atoms.numneigh.push_back(static_cast<int>(atoms.neigh.size() - before));
  }
  Totals totals;
  totals.message = atoms.run(compute);
  totals.energy = atoms.energy;
  for (const double one : atoms.local_energies) totals.scale += std::abs(one);
  totals.forces.assign(x.size(), 0.0);
  for (size_t k = 0; k < n; k++)
    for (int d = 0; d < 3; d++) totals.forces[3 * order[k] + d] = atoms.forces[3 * k + d];
  return totals;
}

}    // namespace

void QuipAtoms::clear()
{
  for (std::vector<int> *one : {&numbers, &tags, &ilist, &numneigh, &neigh}) one->clear();
  n_owned = 0;
}

const char *QuipAtoms::run(mlsel_quip_compute_function *compute)
{
  const size_t n = size();
  forces.resize(3 * n);
  local_energies.resize(n);
  local_virials.resize(9 * n);
  mlsel_quip_call call = {};
  call.nlocal = n_owned;
  call.nghost = static_cast<int>(n) - n_owned;
  call.inum = static_cast<int>(ilist.size());
  call.sum_neigh = static_cast<int>(neigh.size());
  call.atomic_numbers = numbers.data();
  call.tags = tags.data();
  call.ilist = ilist.data();
  call.numneigh = numneigh.data();
  call.neigh = neigh.data();
  call.lattice = lattice;
  call.x = x.data();
  call.local_energies = local_energies.data();
  call.local_virials = local_virials.data();
  call.forces = forces.data();
  if (const char *message = compute(&call)) return message;
  energy = call.energy;
  std::copy_n(call.virial, 9, virial);
  double sum = 0.0, scale = 1.0;
  for (const double one : local_energies) {
    sum += one;
    scale += std::abs(one);
  }
  // not a number is not within either
  if (!(std::abs(sum - energy) <= SUM_AGREES * scale)) {
    static char said[160];
    std::snprintf(said, sizeof said,
                  "the sum of its local energies is %.10g eV, its energy %.10g eV", sum, energy);
    return said;
  }
  return nullptr;
}

std::string check_quip(mlsel_quip_compute_function *compute, double cutoff,
                       const std::vector<int> &elements)
{
  if (!(cutoff > 0.0 && cutoff < 1000.0))
    return "it has the cutoff " + std::to_string(cutoff) + " Å, and sums over neighbours need one";
  const std::vector<double> x = places(cutoff);
  const size_t n = x.size() / 3, half = n / 2;
  const double everybody = 1e3;
  const Totals whole = evaluate(compute, x, elements, 0, n, cutoff);
  if (whole.message) return whole.message;
  const Totals skin = evaluate(compute, x, elements, 0, n, everybody);
  if (skin.message) return skin.message;
  const Totals left = evaluate(compute, x, elements, 0, half, cutoff);
  if (left.message) return left.message;
  const Totals right = evaluate(compute, x, elements, half, n, cutoff);
  if (right.message) return right.message;

  const double scale = 1e-3 + whole.scale, parts = left.energy + right.energy;
  double largest = 1e-3, difference = 0.0;
  for (size_t k = 0; k < x.size(); k++) {
    largest = std::max(largest, std::abs(whole.forces[k]));
    difference = std::max({difference, std::abs(whole.forces[k] - skin.forces[k]),
                           std::abs(whole.forces[k] - left.forces[k] - right.forces[k])});
  }
  if (std::abs(whole.energy - skin.energy) <= PARTS_AGREE * scale &&
      std::abs(whole.energy - parts) <= PARTS_AGREE * scale && difference <= PARTS_AGREE * largest)
    return "";
  char said[400];
  std::snprintf(
      said, sizeof said,
      "a test cluster of %zu atoms has %.8g eV as a whole, %.8g eV with neighbours beyond "
      "the cutoff in the lists, %.8g eV shared out among two processes; forces differ by "
      "up to %.2g eV/Å",
      n, whole.energy, skin.energy, parts, difference);
  return said;
}

}    // namespace mlsel
