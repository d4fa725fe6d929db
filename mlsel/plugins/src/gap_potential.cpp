#include "gap_potential.h"

#include <algorithm>
#include <stdexcept>

#include "gap_glue.h"
#include "gap_pair.h"
#include "gap_soap.h"
#include "gap_triplet.h"
#include "kernels.h"

namespace mlsel {
namespace {

// Atoms whose descriptors are multiplied with the sparse points at once: those are read from
// memory once a block, and the descriptors stay in the cache. A multiple of every kernel's tile.
constexpr int BLOCK = 36;

}    // namespace

void GapEnvironments::clear()
{
  atoms.clear();
  first.assign(1, 0);
  neighbours.clear();
  vectors.clear();
}

void GapEnvironments::add_neighbour(int atom, double x, double y, double z)
{
  neighbours.push_back(atom);
  vectors.push_back(x);
  vectors.push_back(y);
  vectors.push_back(z);
}

GapPotential::GapPotential(const GapFile &file)
    : kernel_(choose_kernel<GapKernel>(MLSEL_KERNELS(gap_kernel))), cutoff_(file.cutoff()),
      e0_(file.e0)
{
  for (const PairTerm &term : file.pairs) pairs_.emplace_back(term);
  for (const TripletTerm &term : file.triplets) triplets_.emplace_back(term, kernel_);
  for (const GlueTerm &term : file.cores) cores_.emplace_back(term);
  for (const SoapTerm &term : file.soaps)
    soaps_.push_back(std::make_unique<GapSoap>(term, kernel_));
}

GapPotential::~GapPotential() = default;

bool GapPotential::has_triplets() const { return !triplets_.empty(); }

void GapPotential::prepare_variances(const GapFile &file)
{
  if (!triplets_.empty())
    throw std::runtime_error("has terms over triplets, of which no variance is computed here");
  for (size_t k = 0; k < soaps_.size(); k++) soaps_[k]->prepare_variance(file.soaps[k]);
  for (size_t k = 0; k < pairs_.size(); k++) pairs_[k].prepare_variance(file.pairs[k]);
}

class GapPotential::Workspace {
 public:
  SoapWorkspace soap;
  TripletWorkspace triplets;
  PairWorkspace pairs;
};

std::unique_ptr<GapPotential::Workspace, void (*)(GapPotential::Workspace *)> GapPotential::
    workspace() const
{
  return {new Workspace, [](Workspace *work) { delete work; }};
}

GapOrder GapPotential::order(const std::vector<int> &central_atoms, const int *numbers)
{
  GapOrder order;
  order.atoms = central_atoms;
  std::stable_sort(order.atoms.begin(), order.atoms.end(),
                   [numbers](int a, int b) { return numbers[a] < numbers[b]; });
  const int n = static_cast<int>(order.atoms.size());
  for (int begin = 0, end; begin < n; begin = end) {
    end = begin;
    while (end < n && numbers[order.atoms[end]] == numbers[order.atoms[begin]]) end++;
    const int n_blocks = (end - begin + BLOCK - 1) / BLOCK;
    for (int k = 0; k < n_blocks; k++)
      order.starts.push_back(begin +
                             static_cast<int>(static_cast<long>(end - begin) * k / n_blocks));
  }
  order.starts.push_back(n);
  return order;
}

void GapPotential::evaluate(const GapEnvironments &block, const int *numbers, Workspace &work,
                            GapTotals &totals) const
{
  if (totals.energies)
    for (int atom : block.atoms) totals.energies[atom] += e0_[block.atomic_number];
  for (const GapPair &pair : pairs_)
    if (pair.is_centre(block.atomic_number)) {
      pair.evaluate(block, numbers, totals);
      if (totals.variances)
        pair.add_variances(kernel_, block, numbers, work.pairs, totals.variances);
    }
  for (const GapTriplet &term : triplets_)
    if (term.is_centre(block.atomic_number)) term.evaluate(block, numbers, work.triplets, totals);
  for (const GapGlue &core : cores_) core.evaluate(block, numbers, totals);
  for (const auto &term : soaps_)
    if (term->is_centre(block.atomic_number)) term->evaluate(block, numbers, work.soap, totals);
}

}    // namespace mlsel
