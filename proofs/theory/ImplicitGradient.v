(** T14 [implicit_gradient]: the derivative of an equilibrium by the input, its Neumann series, and what it costs to
    evaluate it beside the equilibrium. J stands for the derivative by the state, K for that by the input, both bounded
    linear maps; v = K h + J v is v = (I - J)^-1 K h. *)
From Coq Require Import Reals Lra Lia.
From Deqops Require Import Metric BanachSpace OperatorEquation LinearMap.
Local Open Scope R_scope.
Set Implicit Arguments.

(** w + J w + ... + J^(n-1) w. *)
Fixpoint neumann (E : banach) (J : point E -> point E) (w : point E) (n : nat) : point E :=
  match n with O => zero E | S k => add E (neumann E J w k) (iterate (metric E) J w k) end.

Section Gradient.
Variables (E B : banach) (q b : R).
Hypothesis q_range : 0 <= q < 1.

(** (I - J)^-1 w exists, is one, and is bounded by norm w / (1 - q). *)
Lemma resolvent (J : point E -> point E) w : linear E E J -> bounded E E J q ->
  exists v, v = add E w (J v) /\ (forall u, u = add E w (J u) -> u = v) /\ norm E v <= norm E w / (1 - q).
Proof.
  intros lin bound.
  destruct (@operator_equation E J q 1 q) with (f := w) as [v [fixed [only _]]]; [lra | | | lra |].
  - intros y z. rewrite <- (linear_sub lin). apply bound.
  - rewrite Rabs_R1. lra.
  - rewrite scale_one in fixed. exists v. split; [exact fixed|].
    split; [intros u fu; apply only; rewrite scale_one; exact fu|].
    apply absorb; [lra|]. rewrite fixed at 1. apply Rle_trans with (1 := norm_add E _ _).
    pose proof (bound v). lra.
Qed.

Lemma neumann_rest (J : point E -> point E) w v n : linear E E J -> v = add E w (J v) ->
  v = add E (neumann E J w n) (iterate (metric E) J v n).
Proof.
  intros lin fixed.
  assert (split : forall k, iterate (metric E) J v k
            = add E (iterate (metric E) J w k) (iterate (metric E) J v (Datatypes.S k))).
  { induction k as [|k IH]; [exact fixed|]. simpl. rewrite IH at 1. apply (proj1 lin). }
  induction n as [|n IH]; simpl.
  - rewrite add_comm. symmetry. apply add_zero.
  - apply eq_trans with (1 := IH). apply eq_trans with (1 := f_equal (add E _) (split n)). apply add_assoc.
Qed.

Lemma powers_bounded (J : point E -> point E) v n : bounded E E J q ->
  norm E (iterate (metric E) J v n) <= q ^ n * norm E v.
Proof.
  intros bound. induction n as [|n IH]; simpl; [lra|].
  apply Rle_trans with (1 := bound _). rewrite Rmult_assoc. apply Rmult_le_compat_l; [lra | exact IH].
Qed.

(** n Neumann terms: the error is at most q^n b / (1 - q), relative to h. *)
Theorem neumann_truncation (J : point E -> point E) (K : point B -> point E) : linear E E J -> bounded E E J q ->
  bounded B E K b -> forall h v n, v = add E (K h) (J v) ->
  norm E (sub E (neumann E J (K h) n) v) <= q ^ n * b / (1 - q) * norm B h.
Proof.
  intros lin bound input h v n fixed.
  destruct (resolvent (K h) lin bound) as [u [_ [only size]]].
  rewrite <- (only v fixed) in size.
  replace (norm E (sub E (neumann E J (K h) n) v)) with (norm E (iterate (metric E) J v n)).
  2: { rewrite norm_sub_sym. f_equal. rewrite (@neumann_rest J (K h) v n lin fixed) at 2. symmetry. apply add_sub_cancel. }
  apply Rle_trans with (1 := powers_bounded v n bound).
  replace (q ^ n * b / (1 - q) * norm B h) with (q ^ n * (b * norm B h / (1 - q))) by (field; lra).
  apply Rmult_le_compat_l; [apply pow_le; lra|].
  apply Rle_trans with (1 := size). unfold Rdiv.
  apply Rmult_le_compat_r; [left; apply Rinv_0_lt_compat; lra | apply input].
Qed.

(** Evaluated at y instead of s: derivatives that are l- and l'-Lipschitz in the state, norm (y - s) <= eps. *)
Theorem implicit_evaluation (S : point E -> Prop) (J : point E -> point E -> point E)
  (K : point E -> point B -> point E) (l l' eps : R) (y s : point E) : S y -> S s ->
  (forall z, S z -> linear E E (J z) /\ bounded E E (J z) q) -> bounded B E (K s) b -> 0 <= l -> 0 <= l' ->
  (forall z v, S z -> norm E (sub E (J z v) (J s v)) <= l * norm E (sub E z s) * norm E v) ->
  (forall z h, S z -> norm E (sub E (K z h) (K s h)) <= l' * norm E (sub E z s) * norm B h) ->
  norm E (sub E y s) <= eps ->
  forall h u v, u = add E (K y h) (J y u) -> v = add E (K s h) (J s v) ->
  norm E (sub E u v) <= (l' * eps / (1 - q) + l * eps * b / (1 - q) ^ 2) * norm B h.
Proof.
  intros Sy Ss derivative input l0 l'0 J_in_y K_in_y near h u v at_y at_s.
  destruct (derivative y Sy) as [lin bound].
  destruct (resolvent (K s h) (proj1 (derivative s Ss)) (proj2 (derivative s Ss))) as [t [_ [only size]]].
  rewrite <- (only v at_s) in size.
  assert (v_size : norm E v <= b * norm B h / (1 - q)).
  { apply Rle_trans with (1 := size). unfold Rdiv.
    apply Rmult_le_compat_r; [left; apply Rinv_0_lt_compat; lra | apply input]. }
  assert (step : norm E (sub E u v) <= q * norm E (sub E u v) + (l' * eps * norm B h + l * eps * norm E v)).
  { rewrite at_y at 1. rewrite at_s at 1. rewrite sub_add.
    apply Rle_trans with (1 := norm_add E _ _).
    pose proof (norm_triangle E (J y u) (J y v) (J s v)) as tri.
    rewrite <- (linear_sub lin) in tri. pose proof (bound (sub E u v)) as k.
    pose proof (J_in_y y v Sy) as k_J. pose proof (K_in_y y h Sy) as k_K.
    assert (l * norm E (sub E y s) * norm E v <= l * eps * norm E v).
    { apply Rmult_le_compat_r; [apply norm_nonneg|]. apply Rmult_le_compat_l; assumption. }
    assert (l' * norm E (sub E y s) * norm B h <= l' * eps * norm B h).
    { apply Rmult_le_compat_r; [apply norm_nonneg|]. apply Rmult_le_compat_l; assumption. }
    lra. }
  apply absorb in step; [|lra].
  assert (eps0 : 0 <= eps) by (apply Rle_trans with (2 := near); apply norm_nonneg).
  apply Rle_trans with (1 := step).
  replace ((l' * eps / (1 - q) + l * eps * b / (1 - q) ^ 2) * norm B h)
    with ((l' * eps * norm B h + l * eps * (b * norm B h / (1 - q))) / (1 - q)) by (field; lra).
  unfold Rdiv at 1 2. apply Rmult_le_compat_r; [left; apply Rinv_0_lt_compat; lra|].
  apply Rplus_le_compat_l. apply Rmult_le_compat_l; [apply Rmult_le_pos; assumption | exact v_size].
Qed.

(** Both together: n Neumann terms, evaluated at y, against the derivative at s. *)
Theorem gradient_error (S : point E -> Prop) (J : point E -> point E -> point E)
  (K : point E -> point B -> point E) (l l' eps : R) (y s : point E) : S y -> S s ->
  (forall z, S z -> linear E E (J z) /\ bounded E E (J z) q) ->
  (forall z, S z -> bounded B E (K z) b) -> 0 <= l -> 0 <= l' ->
  (forall z v, S z -> norm E (sub E (J z v) (J s v)) <= l * norm E (sub E z s) * norm E v) ->
  (forall z h, S z -> norm E (sub E (K z h) (K s h)) <= l' * norm E (sub E z s) * norm B h) ->
  norm E (sub E y s) <= eps ->
  forall n h v, v = add E (K s h) (J s v) ->
  norm E (sub E (neumann E (J y) (K y h) n) v)
    <= (q ^ n * b / (1 - q) + l' * eps / (1 - q) + l * eps * b / (1 - q) ^ 2) * norm B h.
Proof.
  intros Sy Ss derivative input l0 l'0 J_in_y K_in_y near n h v at_s.
  destruct (derivative y Sy) as [lin bound].
  destruct (resolvent (K y h) lin bound) as [u [at_y _]].
  pose proof (neumann_truncation lin bound (input y Sy) h n at_y) as cut.
  pose proof 
    (@implicit_evaluation S J K l l' eps y s Sy Ss derivative (input s Ss) l0 l'0 J_in_y K_in_y near h u v at_y at_s) as moved.
  pose proof (norm_triangle E (neumann E (J y) (K y h) n) u v). lra.
Qed.

(** The formula itself: s the equilibrium as a function of the input, Lipschitz as T10 shows, G differentiable at
    (s x, x) in state and input together: s has the derivative h -> (I - J)^-1 K h at x. *)
Theorem implicit_gradient (G : point B -> point E -> point E) (s : point B -> point E) (x : point B)
  (J : point E -> point E) (K : point B -> point E) (C : R) :
  linear E E J -> bounded E E J q -> 0 <= C ->
  (forall z, equilibrium (metric E) (G z) (s z)) ->
  (forall z, norm E (sub E (s z) (s x)) <= C * norm B (sub B z x)) ->
  (forall e, 0 < e -> exists delta, 0 < delta /\ forall z y, norm B (sub B z x) < delta -> norm E (sub E y (s x)) < delta ->
     norm E (sub E (sub E (G z y) (G x (s x))) (add E (J (sub E y (s x))) (K (sub B z x))))
       <= e * (norm E (sub E y (s x)) + norm B (sub B z x))) ->
  forall e, 0 < e -> exists delta, 0 < delta /\ forall z v, norm B (sub B z x) < delta ->
    v = add E (K (sub B z x)) (J v) ->
    norm E (sub E (sub E (s z) (s x)) v) <= e * norm B (sub B z x).
Proof.
  intros lin bound C0 fixed moves differentiable e pos.
  destruct (differentiable (e * (1 - q) / (C + 1))) as [delta [delta0 small]].
  { apply Rdiv_lt_0_compat; [nra | lra]. }
  assert (room : 0 < delta / (C + 1)) by (apply Rdiv_lt_0_compat; lra).
  exists (delta / (C + 1)). split; [exact room|]. intros z v near solves.
  pose proof (moves z) as m. pose proof (norm_nonneg B (sub B z x)) as n0.
  set (d := sub E (s z) (s x)) in *. set (h := sub B z x) in *.
  set (w := delta / (C + 1)) in *. assert (scaled : delta = C * w + w) by (unfold w; field; lra).
  assert (0 <= C * norm B h <= C * w).
  { split; [apply Rmult_le_pos; assumption | apply Rmult_le_compat_l; lra]. }
  assert (h_small : norm B h < delta) by lra.
  assert (d_small : norm E d < delta) by lra.
  pose proof (small z (s z) h_small d_small) as rest. rewrite (fixed z), (fixed x) in rest. fold d h in rest.
  assert (step : norm E (sub E d v) <= q * norm E (sub E d v) + e * (1 - q) / (C + 1) * ((C + 1) * norm B h)).
  { apply Rle_trans with (1 := norm_triangle E d (add E (J d) (K h)) v).
    assert (e * (1 - q) / (C + 1) * (norm E d + norm B h) <= e * (1 - q) / (C + 1) * ((C + 1) * norm B h)).
    { apply Rmult_le_compat_l; [left; apply Rdiv_lt_0_compat; [nra | lra]|]. lra. }
    pose proof (bound (sub E d v)) as k. rewrite (linear_sub lin) in k.
    rewrite (add_comm E (J d)) in rest |- *. rewrite solves at 1. rewrite add_left_sub. lra. }
  apply absorb in step; [|lra]. apply Rle_trans with (1 := step). right. field. lra.
Qed.
End Gradient.

(** On the line, G = q y + x: the derivative is 1 / (1 - q), and the truncation error q^n / (1 - q) is attained. *)
Theorem neumann_attained (q : R) (n : nat) : 0 <= q < 1 ->
  let E := real_line in
  norm E (sub E (neumann E (fun v => q * v) 1 n) (1 / (1 - q))) = q ^ n * 1 / (1 - q) * norm E 1.
Proof.
  intros range E.
  assert (fixed : 1 / (1 - q) = add E 1 (q * (1 / (1 - q)))) by (simpl; field; lra).
  assert (lin : linear E E (fun v => q * v)) by (split; intros; simpl; ring).
  rewrite norm_sub_sym. rewrite (@neumann_rest E (fun v => q * v) 1 (1 / (1 - q)) n lin fixed) at 1.
  rewrite add_sub_cancel.
  assert (powers : forall k (v : R), iterate (metric E) (fun v => q * v) v k = q ^ k * v).
  { induction k as [|k IH]; intros v; simpl; [ring|]. rewrite IH. ring. }
  rewrite powers. unfold E. rewrite !real_norm, Rabs_R1.
  rewrite Rabs_right; [field; lra|].
  apply Rle_ge, Rmult_le_pos; [apply pow_le; lra|]. left. apply Rdiv_lt_0_compat; lra.
Qed.
