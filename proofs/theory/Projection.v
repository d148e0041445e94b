(** T7 [projection]: the equation y = f + lambda T(y), projected; and Nystrom's method, where T is replaced instead. *)
From Coq Require Import Reals Lra Lia List.
From Deqops Require Import Metric Picard BanachSpace OperatorEquation LinearMap WeightedSpace.
Import ListNotations.
Local Open Scope R_scope.
Set Implicit Arguments.

Section Projection.
Variables (E : banach) (T : point E -> point E) (k lambda : R).
Hypothesis k_range : 0 <= k.
Hypothesis lip : forall y z, norm E (sub E (T y) (T z)) <= k * norm E (sub E y z).

(** The bound, for any solutions of the two equations; P need not even be a projection here. *)
Lemma projected_error (P : point E -> point E) p f s y : linear E E P -> bounded E E P p -> 0 <= p ->
  Rabs lambda * k * p < 1 -> s = equation_map E f lambda T s -> y = add E (P f) (scale E lambda (P (T y))) ->
  norm E (sub E y s) <= norm E (sub E s (P s)) / (1 - Rabs lambda * k * p).
Proof.
  intros lin bound p0 below fixed projected.
  apply absorb; [exact below|].
  apply Rle_trans with (1 := norm_triangle E y (P s) s).
  rewrite (norm_sub_sym E (P s) s).
  apply Rplus_le_compat_r.
  rewrite fixed at 1. unfold equation_map. rewrite (proj1 lin), (proj2 lin).
  rewrite projected at 1. rewrite add_left_sub, scale_sub, norm_scale, <- linear_sub by exact lin.
  apply Rle_trans with (Rabs lambda * (p * (k * norm E (sub E y s)))); [|right; ring].
  apply Rmult_le_compat_l; [apply Rabs_pos|].
  apply Rle_trans with (1 := bound _).
  apply Rmult_le_compat_l; [exact p0 | apply lip].
Qed.

Lemma projection_norm (P : point E -> point E) p : (forall x, P (P x) = P x) -> bounded E E P p ->
  (exists x, P x <> zero E) -> 1 <= p.
Proof.
  intros twice bound [x nonzero]. pose proof (bound (P x)) as b. rewrite twice in b.
  pose proof (norm_nonneg E (P x)) as n0.
  assert (norm E (P x) <> 0) by (intros none; apply nonzero; exact (norm_definite E _ none)).
  apply Rnot_lt_le. intros small. nra.
Qed.

(** Both equations have one solution each, and their distance is bounded. *)
Theorem projection (P : point E -> point E) p : linear E E P -> bounded E E P p -> (forall x, P (P x) = P x) ->
  (exists x, P x <> zero E) -> Rabs lambda * k * p < 1 ->
  forall f, exists s y,
  s = add E f (scale E lambda (T s)) /\ (forall t, t = add E f (scale E lambda (T t)) -> t = s)
  /\ y = add E (P f) (scale E lambda (P (T y))) /\ (forall t, t = add E (P f) (scale E lambda (P (T t))) -> t = y)
  /\ norm E (sub E y s) <= norm E (sub E s (P s)) / (1 - Rabs lambda * k * p).
Proof.
  intros lin bound twice nonzero below f.
  pose proof (projection_norm twice bound nonzero) as p1. pose proof (Rabs_pos lambda) as l0.
  assert (q0 : 0 <= Rabs lambda * k) by (apply Rmult_le_pos; assumption).
  destruct (operator_equation E T lambda k_range lip (Rle_refl _)) with (f := f) as [s [fixed [only _]]]; [nra|].
  destruct (@operator_equation E (fun y => P (T y)) (k * p) lambda (Rabs lambda * k * p)) with (f := P f)
    as [y [projected [alone _]]]; [nra | | right; ring | exact below |].
  { intros y z. rewrite <- linear_sub by exact lin. apply Rle_trans with (1 := bound _).
    rewrite (Rmult_comm k p), Rmult_assoc. apply Rmult_le_compat_l; [lra | apply lip]. }
  exists s, y. repeat (split; [assumption|]).
  eapply projected_error; eauto; lra.
Qed.

(** Projections that converge at the solution, with norms bounded together, give solutions that converge. *)
Theorem projection_converges (P : nat -> point E -> point E) (p : nat -> R) q f s (y : nat -> point E) :
  (forall n, linear E E (P n) /\ bounded E E (P n) (p n) /\ 0 <= p n /\ Rabs lambda * k * p n <= q) -> q < 1 ->
  s = add E f (scale E lambda (T s)) -> (forall n, y n = add E (P n f) (scale E lambda (P n (T (y n))))) ->
  tends (metric E) (fun n => P n s) s -> tends (metric E) y s.
Proof.
  intros each below fixed projected lim eps pos.
  destruct (lim (eps * (1 - q))) as [N HN]; [nra|].
  exists N. intros n Hn. specialize (HN n Hn). simpl in *.
  destruct (each n) as [lin [bound [p0 rate]]].
  assert (small : Rabs lambda * k * p n < 1) by lra.
  assert (near : norm E (sub E (y n) s) <= norm E (sub E s (P n s)) / (1 - Rabs lambda * k * p n))
    by (eapply projected_error; eauto).
  apply Rle_lt_trans with (1 := near).
  rewrite norm_sub_sym in HN. apply Rmult_lt_reg_r with (1 - Rabs lambda * k * p n); [lra|].
  unfold Rdiv. rewrite Rmult_assoc, Rinv_l, Rmult_1_r by lra. nra.
Qed.

Lemma replaced_residual (T_h : point E -> point E) f y : y = equation_map E f lambda T_h y ->
  norm E (sub E (equation_map E f lambda T y) y) = Rabs lambda * norm E (sub E (T_h y) (T y)).
Proof.
  intros fixed. rewrite fixed at 2. unfold equation_map.
  now rewrite add_left_sub, scale_sub, norm_scale, norm_sub_sym.
Qed.

(** Nystrom, computable form: the defect at the solution that was computed, with the constant of T. *)
Theorem nystrom (T_h : point E -> point E) f s y : Rabs lambda * k < 1 ->
  s = add E f (scale E lambda (T s)) -> y = add E f (scale E lambda (T_h y)) ->
  norm E (sub E y s) <= Rabs lambda * norm E (sub E (T_h y) (T y)) / (1 - Rabs lambda * k).
Proof.
  intros below fixed replaced.
  pose proof (Rmult_le_pos _ _ (Rabs_pos lambda) k_range) as q0.
  pose proof (@equation_lipschitz E (fun _ => True) f lambda T k (fun a b _ _ => lip a b)) as contracts.
  rewrite <- (replaced_residual T_h f replaced).
  exact (@residual_bound (metric E) (fun _ => True) _ _ (conj q0 below) contracts y s I I (eq_sym fixed)).
Qed.
End Projection.

(** Nystrom, a-priori form: the defect at the true solution, with the constant of T_h; T has none to satisfy. *)
Theorem nystrom_a_priori (E : banach) (T T_h : point E -> point E) (k_h lambda : R) : 0 <= k_h ->
  (forall y z, norm E (sub E (T_h y) (T_h z)) <= k_h * norm E (sub E y z)) -> Rabs lambda * k_h < 1 ->
  forall f s, s = add E f (scale E lambda (T s)) ->
  exists y, y = add E f (scale E lambda (T_h y)) /\ (forall t, t = add E f (scale E lambda (T_h t)) -> t = y)
  /\ norm E (sub E y s) <= Rabs lambda * norm E (sub E (T_h s) (T s)) / (1 - Rabs lambda * k_h).
Proof.
  intros k0 lip below f s fixed.
  destruct (operator_equation E T_h lambda k0 lip (Rle_refl _) below f) as [y [replaced [only _]]].
  exists y. repeat (split; [assumption|]).
  rewrite norm_sub_sym, (norm_sub_sym E (T_h s)).
  exact (@nystrom E T_h k_h lambda k0 lip T f y s below replaced fixed).
Qed.

(** The hypotheses can be met: keeping the first factor of a product is a projection of norm 1, as for R^n and its
    first coordinates, so that every T with abs(lambda) k < 1 will do. *)
Definition keep_first (J : join) (E F : banach) (x : point (product J E F)) : point (product J E F) :=
  (fst x, zero F).

Theorem projection_instance (J : join) (E F : banach) (T : point (product J E F) -> point (product J E F)) k lambda :
  (exists x : point E, x <> zero E) -> 0 <= k ->
  lipschitz (metric (product J E F)) (fun _ => True) k T -> Rabs lambda * k < 1 ->
  let X := product J E F in let P := @keep_first J E F in
  forall f, exists s y : point X,
  s = add X f (scale X lambda (T s)) /\ y = add X (P f) (scale X lambda (P (T y)))
  /\ norm X (sub X y s) <= norm F (snd s) / (1 - Rabs lambda * k).
Proof.
  intros [x nonzero] k0 lip below X P f.
  assert (lin : linear X X P).
  { split; intros; unfold P, keep_first; simpl; f_equal.
    - symmetry. apply add_zero.
    - rewrite <- (scale_zero F (zero F)) at 2. rewrite scale_scale, Rmult_0_r. symmetry. apply scale_zero. }
  assert (bound : bounded X X P 1).
  { intros [u v]. unfold P, keep_first. simpl. rewrite Rmult_1_l, norm_zero.
    apply join_monotone; split; try apply Rle_refl; apply norm_nonneg. }
  destruct (@projection X T k lambda k0 (fun a b => lip a b I I) P 1 lin bound) with (f := f)
    as [s [y [fixed [_ [projected [_ near]]]]]].
  - reflexivity.
  - exists (x, zero F). intros none. apply nonzero. exact (f_equal fst none).
  - lra.
  - exists s, y. split; [exact fixed|]. split; [exact projected|].
    apply Rle_trans with (1 := near). rewrite Rmult_1_r. unfold Rdiv.
    apply Rmult_le_compat_r; [left; apply Rinv_0_lt_compat; lra|].
    destruct s as [u v]. simpl. fold (sub E u u) (sub F v (zero F)). rewrite sub_self, norm_zero, sub_zero.
    apply Rle_trans with (1 := join_below J (Rle_refl 0) (norm_nonneg F v)). lra.
Qed.
