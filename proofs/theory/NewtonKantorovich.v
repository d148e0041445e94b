(** T6 [newton_kantorovich], radii form, in a real Banach space: F(y) = y - G(y), A an approximate inverse of its slopes.

    The slopes enter as what they prove of differences: where F(y) - F(z) = M (y - z) with norm (I - A M) <= Z, the
    hypothesis [slopes] holds. That A is injective is a hypothesis; with one bounded M of this kind A is onto
    ([newton_onto]), which in R^n makes it injective. *)
From Coq Require Import Reals Lra Lia.
From Deqops Require Import Metric Picard LocalPicard BanachSpace LinearMap.
Local Open Scope R_scope.
Set Implicit Arguments.

Section Newton.
Variables (E : banach) (G A : point E -> point E) (c : point E) (r Y Z : R).
Notation F := (fun y => sub E y (G y)).
Notation M := (metric E).
Hypothesis radius : 0 <= r.
Hypothesis Z_range : 0 <= Z < 1.
Hypothesis A_linear : linear E E A.
Hypothesis slopes : forall y z, ball M c r y -> ball M c r z ->
  norm E (sub E (sub E y z) (A (sub E (F y) (F z)))) <= Z * norm E (sub E y z).

(** Newton's map with A for the inverse. *)
Definition newton_map (y : point E) : point E := sub E y (A (F y)).

Lemma newton_lipschitz : lipschitz M (ball M c r) Z newton_map.
Proof.
  intros y z By Bz. simpl. unfold newton_map. rewrite sub_swap, <- (linear_sub A_linear). exact (slopes By Bz).
Qed.

Lemma newton_fixed : (forall v, A v = zero E -> v = zero E) ->
  forall y, equilibrium M newton_map y <-> equilibrium M G y.
Proof.
  intros injective y. unfold equilibrium, newton_map. split; intros fixed.
  - symmetry. apply sub_is_zero, injective. exact (sub_keeps _ _ fixed).
  - cbv beta. rewrite fixed, sub_self, (linear_zero A_linear). apply sub_zero.
Qed.

(** Any point of the ball, bounded by its residual; A need not be injective. *)
Theorem newton_residual a s y : bounded E E A a -> ball M c r s -> ball M c r y -> equilibrium M G s ->
  norm E (sub E y s) <= a * norm E (F y) / (1 - Z).
Proof.
  intros bound Bs By fixed.
  apply absorb; [lra|].
  pose proof (slopes By Bs) as k. cbv beta in k. rewrite fixed, sub_self, sub_zero in k.
  pose proof (norm_add E (sub E (sub E y s) (A (F y))) (A (F y))) as t.
  rewrite (add_comm E (sub E _ _)), add_sub_back in t. pose proof (bound (F y)). lra.
Qed.

Hypothesis injective : forall v, A v = zero E -> v = zero E.
Hypothesis defect : norm E (A (F c)) <= Y.
Hypothesis room : Y + Z * r <= r.

Theorem newton_kantorovich :
  exists s, ball M c r s /\ equilibrium M G s /\ (forall t, ball M c r t -> equilibrium M G t -> t = s)
  /\ (forall y, ball M c r y -> norm E (sub E y s) <= norm E (A (F y)) / (1 - Z)).
Proof.
  assert (step : forall y, norm E (sub E (newton_map y) y) = norm E (A (F y))).
  { intros y. unfold newton_map. now rewrite sub_back, norm_neg. }
  assert (near : dist M (newton_map c) c <= (1 - Z) * r) by (simpl; rewrite step; lra).
  destruct (local_picard radius Z_range newton_lipschitz near (@metric_complete E)) as [s [Bs [fixed [only [_ bound]]]]].
  exists s. split; [exact Bs|]. split; [exact (proj1 (newton_fixed injective s) fixed)|].
  split; [intros t Bt ft; exact (only t Bt (proj2 (newton_fixed injective t) ft))|].
  intros y By. rewrite <- step. exact (bound y By).
Qed.
End Newton.

(** One linear M with norm (I - A M) <= Z < 1 makes A onto; where linear maps that are onto are injective, as in R^n,
    A is injective. *)
Theorem newton_onto (E : banach) (A M : point E -> point E) (Z : R) : 0 <= Z < 1 -> linear E E A -> linear E E M ->
  (forall v, norm E (sub E v (A (M v))) <= Z * norm E v) -> forall w, exists v, A v = w.
Proof.
  intros range A_linear M_linear small w.
  pose (H := fun v => add E w (sub E v (A (M v)))).
  assert (contracts : lipschitz (metric E) (fun _ => True) Z H).
  { intros y z _ _. simpl. unfold H. rewrite add_left_sub.
    rewrite sub_swap, <- (linear_sub A_linear), <- (linear_sub M_linear). apply small. }
  assert (stays : invariant (metric E) (fun _ => True) H) by (intros y _; exact I).
  destruct (picard range stays contracts (@metric_complete E) (zero E) I) as [v [_ [fixed _]]].
  exists (M v). unfold equilibrium, H in fixed.
  apply (@add_cancel E (sub E v (A (M v)))). rewrite (add_comm E _ w), fixed, add_comm. apply add_sub_back.
Qed.

Lemma Rabs_le_between x a : Rabs x <= a -> - a <= x <= a.
Proof. unfold Rabs. destruct (Rcase_abs x); lra. Qed.

(** The hypotheses can be met where G expands: y^2 = 2 written as y = y - (y^2 - 2) has one root within 1/10 of 3/2. *)
Theorem newton_instance : exists s, Rabs (s - 3 / 2) <= 1 / 10 /\ s * s = 2.
Proof.
  pose (G := fun y : R => y - (y * y - 2)).
  assert (inside : forall y, ball (metric real_line) (3 / 2) (1 / 10) y <-> Rabs (y - 3 / 2) <= 1 / 10).
  { intros y. unfold ball. change (norm real_line (sub real_line y (3 / 2)) <= 1 / 10 <-> Rabs (y - 3 / 2) <= 1 / 10).
    rewrite real_distance. tauto. }
  destruct (@newton_kantorovich real_line G (fun v => / 3 * v) (3 / 2) (1 / 10) (1 / 12) (1 / 15))
    as [s [Bs [fixed _]]]; try lra.
  - split; intros; simpl; ring.
  - intros y z By Bz. apply inside in By, Bz. rewrite real_distance, real_norm.
    replace (sub real_line (sub real_line y z) _) with ((1 - (y + z) / 3) * (y - z)) by (unfold G, sub; simpl; field).
    rewrite Rabs_mult. apply Rmult_le_compat_r; [apply Rabs_pos|].
    apply Rabs_le. apply Rabs_le_between in By, Bz. lra.
  - simpl. intros v none. lra.
  - rewrite real_norm. unfold G, sub. simpl.
    replace (/ 3 * (3 / 2 + - (3 / 2 - (3 / 2 * (3 / 2) - 2)))) with (1 / 12) by field. rewrite Rabs_right; lra.
  - exists s. apply inside in Bs. unfold equilibrium, G in fixed. split; [exact Bs | simpl in fixed; lra].
Qed.
