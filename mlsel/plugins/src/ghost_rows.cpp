#include "ghost_rows.h"

#include <sched.h>

#include <algorithm>

namespace mlsel {
namespace {

// the communicator is ours alone
constexpr int TAG_ROWS = 0, TAG_USED = 1, TAG_NEEDS = 2;

template <typename Real> MPI_Datatype type_of();
template <> MPI_Datatype type_of<float>() { return MPI_FLOAT; }
template <> MPI_Datatype type_of<double>() { return MPI_DOUBLE; }

}    // namespace

GhostRows::Peer &GhostRows::peer(int rank)
{
  const auto at = std::lower_bound(peers_.begin(), peers_.end(), rank,
                                   [](const Peer &one, int wanted) { return one.rank < wanted; });
  if (at != peers_.end() && at->rank == rank) return *at;
  return *peers_.insert(at, Peer{rank});
}

void GhostRows::wait()
{
  MPI_Waitall(static_cast<int>(requests_.size()), requests_.data(), MPI_STATUSES_IGNORE);
  requests_.clear();
}

/// Each process knows whose rows it needs, and nobody who needs its own. So all ask, answer whoever
/// asks, and once what they sent has been received enter a barrier that does not block: when all
/// are in it nothing more can come (Hoefler, Siebert and Lumsdaine, PPoPP 2010).
void GhostRows::connect(MPI_Comm world, int n_local, const std::vector<Owner> &owners)
{
  world_ = world;
  n_local_ = n_local;
  peers_.clear();
  std::vector<int> rows(owners.size());
  for (size_t k = 0; k < owners.size(); k++) rows[k] = owners[k].row;
  // who is through may ask for the next list while others still listen for this one
  const int tag = TAG_NEEDS + static_cast<int>(n_connected_++ % 2);
  for (size_t k = 0; k < owners.size();) {
    Peer &from = peers_.emplace_back(Peer{owners[k].rank});
    from.first = n_local + static_cast<int>(k);
    for (; k < owners.size() && owners[k].rank == from.rank; k++) from.n_from++;
    MPI_Issend(rows.data() + (from.first - n_local), from.n_from, MPI_INT, from.rank, tag, world,
               &requests_.emplace_back());
  }
  MPI_Request barrier = MPI_REQUEST_NULL;
  bool is_entered = false;
  for (int is_over = 0; !is_over;) {
    int is_there = 0;
    MPI_Status status;
    MPI_Iprobe(MPI_ANY_SOURCE, tag, world, &is_there, &status);
    if (is_there) {
      std::vector<int> &needed = peer(status.MPI_SOURCE).needed;
      int n = 0;
      MPI_Get_count(&status, MPI_INT, &n);
      needed.resize(n);
      MPI_Recv(needed.data(), n, MPI_INT, status.MPI_SOURCE, tag, world, MPI_STATUS_IGNORE);
      continue;
    }
    if (is_entered) {
      MPI_Test(&barrier, &is_over, MPI_STATUS_IGNORE);
    } else {
      int is_received = 0;
      MPI_Testall(static_cast<int>(requests_.size()), requests_.data(), &is_received,
                  MPI_STATUSES_IGNORE);
      if (is_received) {
        MPI_Ibarrier(world, &barrier);
        is_entered = true;
      }
    }
    if (!is_over) sched_yield();    // ranks may share cores
  }
  requests_.clear();
  use(nullptr);
}

void GhostRows::use(const std::vector<char> *is_used)
{
  wait();
  for (Peer &peer : peers_) {
    peer.n_in = peer.n_from;
    peer.n_out = static_cast<int>(peer.needed.size());
    if (!is_used) continue;
    while (peer.n_in && !(*is_used)[peer.first - n_local_ + peer.n_in - 1]) peer.n_in--;
    MPI_Irecv(&peer.n_out, 1, MPI_INT, peer.rank, TAG_USED, world_, &requests_.emplace_back());
    MPI_Isend(&peer.n_in, 1, MPI_INT, peer.rank, TAG_USED, world_, &requests_.emplace_back());
  }
}

template <typename Real> void GhostRows::send_out(Real *rows, int width)
{
  wait();
  for (Peer &peer : peers_)
    MPI_Irecv(rows + static_cast<size_t>(peer.first) * width, peer.n_in * width, type_of<Real>(),
              peer.rank, TAG_ROWS, world_, &requests_.emplace_back());
  for (Peer &peer : peers_) {
    const size_t n = static_cast<size_t>(peer.n_out) * width;
    peer.buffer.resize(n * sizeof(Real));
    Real *to = reinterpret_cast<Real *>(peer.buffer.data());
    for (int k = 0; k < peer.n_out; k++)
      to = std::copy_n(rows + static_cast<size_t>(peer.needed[k]) * width, width, to);
    MPI_Isend(peer.buffer.data(), static_cast<int>(n), type_of<Real>(), peer.rank, TAG_ROWS,
              world_, &requests_.emplace_back());
  }
}

template <typename Real> void GhostRows::send_back(Real *rows, int width)
{
  wait();
  for (Peer &peer : peers_) {
    const size_t n = static_cast<size_t>(peer.n_out) * width;
    peer.buffer.resize(n * sizeof(Real));
    MPI_Irecv(peer.buffer.data(), static_cast<int>(n), type_of<Real>(), peer.rank, TAG_ROWS, world_,
              &requests_.emplace_back());
  }
  for (Peer &peer : peers_)
    MPI_Isend(rows + static_cast<size_t>(peer.first) * width, peer.n_in * width, type_of<Real>(),
              peer.rank, TAG_ROWS, world_, &requests_.emplace_back());
}

template <typename Real> void GhostRows::add(Real *rows, int width) const
{
  // process by process: the sums are the same in every run
  for (const Peer &peer : peers_) {
    const Real *from = reinterpret_cast<const Real *>(peer.buffer.data());
    for (int row = 0; row < peer.n_out; row++) {
      Real *to = rows + static_cast<size_t>(peer.needed[row]) * width;
      for (int k = 0; k < width; k++) to[k] += *from++;
    }
  }
}

void GhostRows::start_forward(void *rows, int width, bool is_double)
{
  adding_ = nullptr;
  if (is_double)
    send_out(static_cast<double *>(rows), width);
  else
    send_out(static_cast<float *>(rows), width);
}

void GhostRows::start_reverse(void *rows, int width, bool is_double)
{
  adding_ = rows;
  width_ = width;
  is_double_ = is_double;
  if (is_double)
    send_back(static_cast<double *>(rows), width);
  else
    send_back(static_cast<float *>(rows), width);
}

void GhostRows::finish()
{
  wait();
  if (!adding_) return;
  if (is_double_)
    add(static_cast<double *>(adding_), width_);
  else
    add(static_cast<float *>(adding_), width_);
  adding_ = nullptr;
}

}    // namespace mlsel
