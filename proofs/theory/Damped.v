(** T4 [damped], contraction case: y <- (1-b) y + b G(y) in a real Banach space, b any nonzero number. *)
From Coq Require Import Reals Lra Lia.
From Deqops Require Import Metric Picard LocalPicard BanachSpace.
Local Open Scope R_scope.
Set Implicit Arguments.

Section Damping.
Variable E : banach.
Notation M := (metric E).

Definition damped_map (b : R) (G : point E -> point E) (y : point E) : point E :=
  add E (scale E (1 - b) y) (scale E b (G y)).

Lemma damped_displacement b G y : sub E (damped_map b G y) y = scale E b (sub E (G y) y).
Proof.
  unfold damped_map. rewrite <- scale_sub. unfold sub.
  rewrite (add_comm E (scale E (1 - b) y)), <- add_assoc. f_equal.
  rewrite <- !scale_minus_one, scale_scale. rewrite <- (scale_one E y) at 1 2.
  rewrite !scale_scale, <- scale_sum. f_equal. ring.
Qed.

Theorem damped_equilibria b G y : b <> 0 -> (equilibrium M (damped_map b G) y <-> equilibrium M G y).
Proof.
  intros nonzero. unfold equilibrium.
  rewrite <- (norm_sub_zero E (damped_map b G y)), <- (norm_sub_zero E (G y)).
  rewrite damped_displacement, norm_scale. split; intros none.
  - apply Rmult_integral in none. destruct none as [none|none]; [|exact none].
    exfalso. exact (Rabs_no_R0 b nonzero none).
  - rewrite none. ring.
Qed.

Theorem damped_lipschitz (S : point E -> Prop) b q G : lipschitz M S q G ->
  lipschitz M S (Rabs (1 - b) + Rabs b * q) (damped_map b G).
Proof.
  intros lip y z Sy Sz. simpl. unfold damped_map. rewrite sub_add, !scale_sub.
  apply Rle_trans with (1 := norm_add E _ _). rewrite !norm_scale.
  pose proof (lip y z Sy Sz) as k. simpl in k. pose proof (Rabs_pos b).
  assert (Rabs b * norm E (sub E (G y) (G z)) <= Rabs b * (q * norm E (sub E y z)))
    by (apply Rmult_le_compat_l; assumption).
  lra.
Qed.

Lemma damped_range b q : 0 <= q -> b <> 0 -> Rabs (1 - b) + Rabs b * q < 1 -> 0 <= q < 1.
Proof.
  intros q0 nonzero rate. split; [exact q0|].
  pose proof (Rabs_triang (1 - b) b) as t. replace (1 - b + b) with 1 in t by ring. rewrite Rabs_R1 in t.
  pose proof (Rabs_pos_lt b nonzero). nra.
Qed.

(** One equilibrium of G, and the damped iteration converges to it from everywhere. *)
Theorem damped b q G : 0 <= q -> b <> 0 -> lipschitz M (fun _ => True) q G ->
  let rate := Rabs (1 - b) + Rabs b * q in rate < 1 ->
  exists s, equilibrium M G s /\ (forall t, equilibrium M G t -> t = s)
  /\ (forall y, dist M y s <= dist M (G y) y / (1 - q))
  /\ (forall z0, tends M (iterate M (damped_map b G) z0) s
        /\ (forall n, dist M (iterate M (damped_map b G) z0 n) s
              <= rate ^ n / (1 - rate) * dist M (iterate M (damped_map b G) z0 1) z0)).
Proof.
  intros q0 nonzero lip rate below.
  assert (range : 0 <= rate < 1).
  { split; [|exact below]. unfold rate. pose proof (Rabs_pos (1 - b)). pose proof (Rabs_pos b).
    assert (0 <= Rabs b * q) by (apply Rmult_le_pos; assumption). lra. }
  assert (stays : invariant M (fun _ => True) (damped_map b G)) by (intros y _; exact I).
  destruct (picard range stays (damped_lipschitz b lip) (@metric_complete E) (zero E) I)
    as [s [_ [fixed [only [conv _]]]]].
  apply (damped_equilibria G s nonzero) in fixed. exists s. split; [exact fixed|].
  split; [intros t ft; apply only; [exact I | exact (proj2 (damped_equilibria G t nonzero) ft)]|].
  split; [intros y; exact (residual_bound (damped_range q0 nonzero below) lip y I I fixed)|].
  intros z0. destruct (conv z0 I) as [lim [prior _]]. split; assumption.
Qed.

(** On a ball 0 < b <= 1 keeps the iterates inside. *)
Theorem damped_local (c : point E) (r q b : R) (G : point E -> point E) :
  0 <= r -> 0 <= q < 1 -> 0 < b <= 1 -> lipschitz M (ball M c r) q G ->
  dist M (G c) c <= (1 - q) * r ->
  let rate := 1 - b * (1 - q) in
  exists s, ball M c r s /\ equilibrium M G s /\ (forall t, ball M c r t -> equilibrium M G t -> t = s)
  /\ (forall z0, ball M c r z0 -> tends M (iterate M (damped_map b G) z0) s
        /\ (forall n, ball M c r (iterate M (damped_map b G) z0 n)
              /\ dist M (iterate M (damped_map b G) z0 n) s
                 <= rate ^ n / (1 - rate) * dist M (iterate M (damped_map b G) z0 1) z0)).
Proof.
  intros radius range damping lip room rate.
  assert (nonzero : b <> 0) by lra.
  assert (rates : 0 <= rate < 1) by (unfold rate; nra).
  assert (lip_b : lipschitz M (ball M c r) rate (damped_map b G)).
  { replace rate with (Rabs (1 - b) + Rabs b * q); [exact (damped_lipschitz b lip)|].
    unfold rate. rewrite !Rabs_right by lra. ring. }
  assert (room_b : dist M (damped_map b G c) c <= (1 - rate) * r).
  { simpl. rewrite damped_displacement, norm_scale, Rabs_right by lra. simpl in room.
    replace ((1 - rate) * r) with (b * ((1 - q) * r)) by (unfold rate; ring).
    apply Rmult_le_compat_l; [lra | exact room]. }
  destruct (local_picard radius rates lip_b room_b (@metric_complete E)) as [s [Bs [fixed [only [conv _]]]]].
  pose proof (@ball_invariant M _ c r rate radius rates lip_b room_b) as stays.
  exists s. split; [exact Bs|].
  split; [exact (proj1 (damped_equilibria G s nonzero) fixed)|].
  split; [intros t Bt ft; exact (only t Bt (proj2 (damped_equilibria G t nonzero) ft))|].
  intros z0 B0. destruct (conv z0 B0) as [lim [prior _]]. split; [exact lim|].
  intros n. split; [exact (@iterate_stays M (ball M c r) (damped_map b G) z0 n stays B0) | exact (prior n)].
Qed.
End Damping.
